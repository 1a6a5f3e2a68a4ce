package superblock

import (
	"encoding/binary"
	"strconv"
)

var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

// setLabel sets the label to text up to its first NUL.
func (p *probe) setLabel(b []byte) { p.setLabelText(cString(b)) }

func (p *probe) setLabelText(s string) {
	if p.Label = trimRight(s); p.Label != "" {
		p.add("ID_FS_LABEL", Safe(p.Label))
		p.add("ID_FS_LABEL_ENC", Encode(p.Label))
	}
}

// setID sets ID_FS_name_ID, a name that a file system has beside its label.
func (p *probe) setID(name, value string) {
	if value = trimLeft(trimRight(value)); value != "" {
		p.add("ID_FS_"+name+"_ID", Encode(value))
	}
}

// setUUID sets the UUID to the first 16 bytes, unless all of them are 0.
func (p *probe) setUUID(b []byte) {
	if b = b[:16]; !allZero(b) {
		p.setUUIDText(formatUUID(b))
	}
}

func (p *probe) setUUIDText(s string) {
	if p.UUID = trimRight(s); p.UUID != "" {
		p.addUUID("ID_FS_UUID", p.UUID)
	}
}

// setSubUUID sets the UUID of this member of what the UUID names.
func (p *probe) setSubUUID(b []byte) {
	if b = b[:16]; !allZero(b) {
		p.addUUID("ID_FS_UUID_SUB", formatUUID(b))
	}
}

func (p *probe) addUUID(key, s string) {
	p.add(key, Safe(s))
	p.add(key+"_ENC", Encode(s))
}

func (p *probe) setVersion(s string) { p.add("ID_FS_VERSION", s) }

// setVersions sets the version to major.minor.
func (p *probe) setVersions(major, minor uint64) {
	p.setVersion(decimal(major) + "." + decimal(minor))
}

// setBlockSize sets the size of a block of a file system in bytes.
func (p *probe) setBlockSize(n uint64) { p.add("ID_FS_BLOCKSIZE", decimal(n)) }

// setLastBlock sets the number of blocks of a file system.
func (p *probe) setLastBlock(n uint64) { p.add("ID_FS_LASTBLOCK", decimal(n)) }

// setSize sets the size of a file system in bytes. It is only for people: the
// disk may be smaller.
func (p *probe) setSize(n uint64) { p.add("ID_FS_SIZE", decimal(n)) }

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// formatUUID returns 16 bytes in the form 8-4-4-4-12.
func formatUUID(b []byte) string {
	out := make([]byte, 0, 36)
	for i, c := range b[:16] {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			out = append(out, '-')
		}
		out = append(out, hexDigits[c>>4], hexDigits[c&15])
	}
	return string(out)
}

// formatGUID is formatUUID for a UUID whose first three fields are little endian.
func formatGUID(b []byte) string {
	return formatUUID([]byte{
		b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6],
		b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15],
	})
}

// hex returns n in hexadecimal with at least width digits.
func hex(n uint64, width int) string {
	s := strconv.FormatUint(n, 16)
	for len(s) < width {
		s = "0" + s
	}
	return s
}

// crc32 updates a CRC of the polynomial 0xedb88320 without inverting it. A table
// of 16 words is made on the fly: the data is a few KiB.
func crc32(crc uint32, b []byte) uint32 {
	var table [16]uint32
	for i := range table {
		c := uint32(i)
		for range 4 {
			c = c>>1 ^ -(c&1)&0xedb88320
		}
		table[i] = c
	}
	for _, c := range b {
		crc ^= uint32(c)
		crc = crc>>4 ^ table[crc&15]
		crc = crc>>4 ^ table[crc&15]
	}
	return crc
}
