package superblock

import "strings"

// UDF, by ECMA-167 and OSTA's specification. A row of volume structure
// descriptors from 32 KiB on says that it is one, the anchor at block 256 points
// to the volume descriptors. The size of a block is found by trying.

var udfFormat = format{name: "udf", usage: filesystem, tolerant: true, magics: udfMagics, probe: probeUDF}

var udfMagics = []magic{
	{vsdOffset + 1, "BEA01"}, {vsdOffset + 1, "BOOT2"}, {vsdOffset + 1, "CD001"}, {vsdOffset + 1, "CDW02"},
	{vsdOffset + 1, "NSR02"}, {vsdOffset + 1, "NSR03"}, {vsdOffset + 1, "TEA01"},
}

const (
	// The row of volume structure descriptors: where it begins, the size of each, and how many are looked
	// at. The identifier of each is behind a byte for its type.
	vsdOffset = 32 << 10
	vsdSize   = 2048
	maxVSDs   = 16

	// maxUDF is how many bytes of the volume descriptors are looked at, usually
	// all: there are 16 blocks of them.
	maxUDF = 32 << 10

	// udfSize is the size of a descriptor.
	udfSize = 512

	// Tags of descriptors.
	udfPrimary    = 1
	udfAnchor     = 2
	udfImpUse     = 4
	udfLogical    = 6
	udfTerminator = 8
	udfIntegrity  = 9
)

// probeUDF tries sizes of a block until the anchor is found at block 256: the disk's own first,
// and then those that media have.
func probeUDF(p *probe) bool {
	for i, block := range [...]int64{p.block, 512, 1024, 2048, 4096} {
		if i > 0 && block == p.block || !hasNSR(p, max(block, vsdSize)) {
			continue
		}
		if loadUDF(p, block, 256) == udfAnchor {
			udfVolume(p, block)
			return true
		}
	}
	return false
}

// hasNSR looks for the volume structure descriptor that stands for UDF.
func hasNSR(p *probe, size int64) bool {
	for i := range int64(maxVSDs) {
		p.load(vsdOffset+1+i*size, 5)
		if p.is(0, "NSR02") || p.is(0, "NSR03") {
			return true
		}
		known := false // other descriptors go before it, or behind
		for _, m := range udfMagics {
			known = known || p.is(0, m.bytes)
		}
		if !known {
			break
		}
	}
	return false
}

// loadUDF loads the descriptor in a block. It returns its tag, or 0 if there is
// none.
func loadUDF(p *probe, block, at int64) uint64 {
	if !p.load(at*block, udfSize) || p.u(12, 4) != uint64(at) {
		return 0
	}
	return p.u(0, 2)
}

// udfFields lists the fields with names: the tag of their descriptor, the offset of
// the name of their character set, or 0 for an identifier in ASCII, and their own.
var udfFields = [...]struct {
	name                       string
	tag, charset, offset, size uint16
}{
	{"VOLUME", udfPrimary, 200, 24, 32},
	{"VOLUME_SET", udfPrimary, 200, 72, 128},
	{"APPLICATION", udfPrimary, 0, 345, 23},
	{"APPLICATION", udfPrimary, 0, 389, 23}, // of the implementation
	{"LOGICAL_VOLUME", udfLogical, 20, 84, 128},
	{"PUBLISHER", udfImpUse, 52, 244, 36},
}

// udfVolume sets what the volume descriptors say, to which the anchor points.
// The first of a kind counts.
func udfVolume(p *probe, block int64) {
	integrity, revision := int64(0), uint64(0)
	length, at := min(int64(p.u(16, 4)), maxUDF), int64(p.u(20, 4))
	p.loadUpTo(at*block, length) // all at once
	for ; length >= block; length -= block {
		tag := uint16(loadUDF(p, block, at))
		if tag == 0 || tag == udfTerminator {
			break
		}
		for i := range udfFields {
			f := &udfFields[i]
			if tag == f.tag && p.Get("ID_FS_"+f.name+"_ID") == "" && (tag != udfImpUse || p.is(21, "*UDF LV Info\x00")) {
				text := udfText(p, int(f.charset), int(f.offset), int(f.size))
				p.id(f.name, text)
				if f.offset == 72 {
					p.setUUID(udfUUID(text))
				}
				if tag == udfLogical {
					p.setLabel(text)
				}
			}
		}
		if tag == udfLogical && integrity == 0 {
			if p.is(217, "*OSTA UDF Compliant\x00") {
				revision = p.u(240, 2)
			}
			if p.u(268, 4) > 0 && p.u(432, 4) >= udfSize {
				integrity = int64(p.u(436, 4))
			}
		}
		at++
	}
	if integrity > 0 && loadUDF(p, block, integrity) == udfIntegrity && p.u(76, 4) >= 46 {
		// What a reader and a writer need lies behind two arrays.
		use := 80 + 8*int(min(p.u(72, 4), udfSize))
		revision = max(revision, p.u(use+40, 2), p.u(use+42, 2))
	}
	if revision != 0 {
		p.version(hex(revision>>8, 1) + "." + hex(revision&0xff, 2))
	}
	p.sizes(uint64(block), 0, 0)
}

// udfText returns the text of a field: a byte for its encoding, the characters,
// and in the last byte the length of both. An identifier is without the asterisk
// of a registered one.
func udfText(p *probe, charset, offset, size int) string {
	if charset == 0 {
		if p.is(offset, "*") {
			offset, size = offset+1, size-1
		}
		return cString(p.cut(offset, size))
	}
	text := p.cut(offset+1, min(max(int(p.u(offset+size-1, 1))-1, 0), size-2))
	encoding := p.u(offset, 1)
	if encoding == 8 {
		wide := []byte(nil)
		for _, c := range text {
			wide = append(wide, 0, c)
		}
		text = wide
	} else if encoding != 16 {
		return ""
	}
	if !p.is(charset, "\x00OSTA Compressed Unicode\x00") {
		return ""
	}
	return utf16(text, true)
}

// udfUUID makes a UUID of the name of the volume set, which begins with 16
// characters that are unique: small letters of hexadecimal digits, and where
// there are other characters, the digits of their bytes.
func udfUUID(set string) (s string) {
	if len(set) < 8 {
		return ""
	}
	set += "\x00\x00\x00\x00\x00\x00\x00\x00"
	digits := 0
	for digits < 16 && strings.IndexByte("0123456789abcdefABCDEF", set[digits]) >= 0 {
		digits++
	}
	digits &^= 7 // 0, 8 or 16
	for i := 0; len(s) < 16; i++ {
		next := hex(uint64(set[i]), 2)
		if i < digits {
			next = string(rune(set[i] | 0x20)) // which leaves digits as they are
		}
		s += next
	}
	return s
}
