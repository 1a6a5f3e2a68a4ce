package superblock

import "strconv"

// add appends a property, unless its value is empty.
func (p *probe) add(key, value string) {
	if value != "" {
		p.Properties = append(p.Properties, key+"="+value)
	}
}

// addText appends a property in both forms that udev has for text.
func (p *probe) addText(key, s string) {
	p.add(key, Safe(s))
	p.add(key+"_ENC", Encode(s))
}

// label sets the label to n bytes of the structure, up to the first NUL.
func (p *probe) label(offset, n int) { p.setLabel(cString(p.cut(offset, n))) }

// setLabel sets the properties of the label, and the result's Label, without the blanks with
// which many formats fill the field.
func (p *probe) setLabel(s string) {
	p.Label = trimRight(s)
	p.addText("ID_FS_LABEL", p.Label)
}

// uuid sets the UUID to 16 bytes of the structure.
func (p *probe) uuid(offset int) { p.setUUID(p.uuidOf(offset, uuidForm)) }

// setUUID sets the UUID to text: not every format has one of 16 bytes.
func (p *probe) setUUID(s string) {
	p.UUID = trimRight(s)
	p.addText("ID_FS_UUID", p.UUID)
}

// subUUID sets the UUID of this member of what the UUID names.
func (p *probe) subUUID(offset int) { p.addText("ID_FS_UUID_SUB", p.uuidOf(offset, uuidForm)) }

// id sets ID_FS_name_ID, a name that a file system has beside its label.
func (p *probe) id(name, value string) {
	p.add("ID_FS_"+name+"_ID", Encode(trim(value)))
}

// version sets the version, unless it is empty.
func (p *probe) version(s string) { p.add("ID_FS_VERSION", s) }

// versions sets the version to major.minor.
func (p *probe) versions(major, minor uint64) { p.version(decimal(major) + "." + decimal(minor)) }

// sizes sets the size of a block of a file system in bytes, the number of its
// blocks, and its size in bytes, each unless it is 0. They are for people: the disk
// may be smaller.
func (p *probe) sizes(block, blocks, size uint64) {
	for i, n := range [...]uint64{block, blocks, size} {
		if n != 0 {
			p.add("ID_FS_"+[...]string{"BLOCKSIZE", "LASTBLOCK", "SIZE"}[i], decimal(n))
		}
	}
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

// hex returns n in hexadecimal with at least width digits.
func hex(n uint64, width int) string {
	s := strconv.FormatUint(n, 16)
	for len(s) < width {
		s = "0" + s
	}
	return s
}

// isPower reports whether n is a power of two.
func isPower(n uint64) bool { return n != 0 && n&(n-1) == 0 }

// The forms of a UUID of 16 bytes, for uuidOf: as they stand, and with the first
// three fields little endian.
const (
	uuidForm = "0123-45-67-89-abcdef"
	guidForm = "3210-54-76-89-abcdef"
)

// uuidOf returns bytes of the structure in the order that the digits of a form
// name, or "" if all of them are 0.
func (p *probe) uuidOf(offset int, form string) (s string) {
	if p.zero(offset, 16) {
		return ""
	}
	for i, c := range []byte(form) {
		if c == '-' {
			s += form[i:][:1]
			continue
		}
		if c >= 'a' {
			c -= 'a' - '0' - 10
		}
		s += hex(p.u(offset+int(c-'0'), 1), 2)
	}
	return s
}
