package superblock

// UDF, by ECMA-167 and OSTA's specification. A row of volume structure
// descriptors from 32 KiB on says that it is one, the anchor at block 256 points
// to the volume descriptors. The size of a block is found by trying.

var udfFormat = format{
	name: "udf", usage: filesystem, tolerant: true,
	magics: []magic{
		{vsdOffset + 1, "BEA01"}, {vsdOffset + 1, "BOOT2"}, {vsdOffset + 1, "CD001"}, {vsdOffset + 1, "CDW02"},
		{vsdOffset + 1, "NSR02"}, {vsdOffset + 1, "NSR03"}, {vsdOffset + 1, "TEA01"},
	},
	probe: probeUDF,
}

const (
	vsdOffset = 32 << 10
	vsdSize   = 2048
	maxVSDs   = 16

	// maxUDF is how many bytes of the volume descriptors are looked at, usually
	// all: there are 16 blocks of them.
	maxUDF = 32 << 10

	// Tags of descriptors.
	udfPrimary    = 1
	udfAnchor     = 2
	udfImpUse     = 4
	udfLogical    = 6
	udfTerminator = 8
	udfIntegrity  = 9
)

func probeUDF(p *probe, _ magic) bool {
	sizes := [...]int64{p.block, 512, 1024, 2048, 4096}
	for i, block := range sizes {
		if i > 0 && block == p.block || !hasNSR(p, max(block, vsdSize)) {
			continue
		}
		anchor := p.at(256*block, 512)
		if anchor != nil && le.Uint16(anchor) == udfAnchor && le.Uint32(anchor[12:]) == 256 {
			udfVolume(p, block, anchor)
			return true
		}
	}
	return false
}

// hasNSR looks for the volume structure descriptor that stands for UDF.
func hasNSR(p *probe, size int64) bool {
	for i := range int64(maxVSDs) {
		b := p.at(vsdOffset+i*size, 8)
		if b == nil || b[1] == 0 {
			break
		}
		switch string(b[1:6]) {
		case "NSR02", "NSR03":
			return true
		case "BEA01", "BOOT2", "CD001", "CDW02", "TEA01":
		default:
			return false
		}
	}
	return false
}

// udf is what the volume descriptors say.
type udf struct {
	volume, set, logical, publisher, application string

	revision  uint16
	integrity int64 // block of the logical volume integrity descriptor
}

func udfVolume(p *probe, block int64, anchor []byte) {
	length, start := int64(le.Uint32(anchor[16:])), int64(le.Uint32(anchor[20:]))
	list := p.upTo(start*block, int(min(length, maxUDF)))
	var u udf
	for i := start; int64(len(list)) >= block; i++ {
		tag := le.Uint16(list)
		if tag == 0 || tag == udfTerminator || int64(le.Uint32(list[12:])) != i {
			break
		}
		u.take(tag, list[:block])
		list = list[block:]
	}
	if u.integrity > 0 {
		u.takeIntegrity(p.at(u.integrity*block, int(block)), u.integrity)
	}
	p.setID("VOLUME", u.volume)
	if len(u.set) >= 8 {
		p.setUUIDText(udfUUID(u.set))
	}
	p.setID("VOLUME_SET", u.set)
	p.setID("APPLICATION", u.application)
	p.setLabelText(u.logical)
	p.setID("LOGICAL_VOLUME", u.logical)
	p.setID("PUBLISHER", u.publisher)
	if u.revision != 0 {
		p.setVersion(hex(uint64(u.revision>>8), 1) + "." + hex(uint64(u.revision&0xff), 2))
	}
	p.setBlockSize(uint64(block))
}

// take takes a volume descriptor, of 512 bytes or more. The first of a kind
// counts.
func (u *udf) take(tag uint16, b []byte) {
	switch tag {
	case udfPrimary:
		if isCS0(b[200:]) {
			first(&u.volume, dstring(b[24:56]))
			first(&u.set, dstring(b[72:200]))
		}
		first(&u.application, entityID(b[345:368]))
		first(&u.application, entityID(b[389:412]))
	case udfLogical:
		if isCS0(b[20:]) {
			first(&u.logical, dstring(b[84:212]))
		}
		if u.revision == 0 && cString(b[217:240]) == "*OSTA UDF Compliant" {
			u.revision = le.Uint16(b[240:])
		}
		if u.integrity == 0 && le.Uint32(b[268:]) > 0 && le.Uint32(b[432:]) >= 512 {
			u.integrity = int64(le.Uint32(b[436:]))
		}
	case udfImpUse:
		if cString(b[21:44]) == "*UDF LV Info" && isCS0(b[52:]) {
			first(&u.publisher, dstring(b[244:280]))
		}
	}
}

// takeIntegrity takes the revisions that a reader and a writer need.
func (u *udf) takeIntegrity(b []byte, block int64) {
	if b == nil || le.Uint16(b) != udfIntegrity || int64(le.Uint32(b[12:])) != block || le.Uint32(b[76:]) < 46 {
		return
	}
	at := 80 + 8*int64(le.Uint32(b[72:]))
	if at+46 > int64(len(b)) {
		return
	}
	u.revision = max(u.revision, le.Uint16(b[at+40:]), le.Uint16(b[at+42:]))
}

func first(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

// isCS0 reports whether a charspec names the character set of UDF.
func isCS0(b []byte) bool { return b[0] == 0 && cString(b[1:64]) == "OSTA Compressed Unicode" }

// dstring returns the text of a field: a byte for its encoding, the characters,
// and in the last byte the length of both.
func dstring(b []byte) string {
	text := b[1 : len(b)-1]
	text = text[:min(max(int(b[len(b)-1])-1, 0), len(text))]
	switch b[0] {
	case 8:
		return decode(text, latin1)
	case 16:
		return decode(text, utf16BE)
	}
	return ""
}

// entityID returns an identifier without the asterisk of a registered one.
func entityID(b []byte) string {
	s := cString(b)
	if s != "" && s[0] == '*' {
		s = s[1:]
	}
	return s
}

// udfUUID makes a UUID of the name of the volume set, which begins with 16
// characters that are unique: small letters of hexadecimal digits, and where
// there are other characters, the digits of their bytes.
func udfUUID(set string) string {
	digits := 0
	for digits < min(len(set), 16) && isHex(set[digits]) {
		digits++
	}
	out := make([]byte, 0, 16)
	if digits < 8 {
		digits = 0
	} else if digits < 16 {
		digits = 8
	}
	for i := 0; len(out) < 16; i++ {
		c := byte(0)
		if i < len(set) {
			c = set[i]
		}
		if i >= digits {
			out = append(out, hexDigits[c>>4], hexDigits[c&15])
		} else if c >= 'A' && c <= 'F' {
			out = append(out, c+'a'-'A')
		} else {
			out = append(out, c)
		}
	}
	return string(out)
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }
