package superblock

// ISO 9660 (ECMA-119) with the Joliet extension: volume descriptors of 2 KiB from
// 32 KiB on.

var isoFormat = format{
	name: "iso9660", usage: filesystem, tolerant: true,
	magics: []magic{{vsdOffset + 1, "CD001"}},
	probe:  probeISO,
}

const (
	// Types of volume descriptors.
	isoBoot          = 0
	isoPrimary       = 1
	isoSupplementary = 2
	isoEnd           = 255
)

// isoField is a field with text.
type isoField struct {
	name   string
	offset uint16
	size   uint8
	file   bool // it may name a file instead, which begins with _
}

// isoFields are at the same offsets in the primary descriptor and in that of Joliet.
var isoFields = [...]isoField{
	{"SYSTEM", 8, 32, false},
	{"VOLUME_SET", 190, 128, false},
	{"PUBLISHER", 318, 128, true},
	{"DATA_PREPARER", 446, 128, true},
	{"APPLICATION", 574, 128, true},
	{"", 40, 32, false}, // the label
}

// probeISO goes through the row of volume descriptors, which one of type 255 ends, and sets
// what the primary one says, with the text of Joliet where that has more.
func probeISO(p *probe) bool {
	var at [4]int64 // offset of the first descriptor of each kind
	for i := int64(vsdOffset); i < vsdOffset+maxVSDs*vsdSize && p.load(i, vsdSize); i += vsdSize {
		kind := p.b[0]
		if kind == isoEnd {
			break
		}
		// Joliet is a supplementary descriptor with one of these escape sequences, which stand
		// for the levels of UCS-2. Others have another character set.
		if int(kind) < len(at) && at[kind] == 0 &&
			(kind != isoSupplementary || p.is(88, "%/@") || p.is(88, "%/C") || p.is(88, "%/E")) {
			at[kind] = i
		}
	}
	if !p.load(at[isoPrimary], vsdSize) || at[isoPrimary] == 0 {
		return false
	}
	block := p.u(128, 2)
	p.sizes(block, 0, p.u(80, 4)*block)
	for i := range isoFields {
		f := &isoFields[i]
		wide := []byte(nil)
		if joliet := at[isoSupplementary]; joliet != 0 {
			wide = p.at(joliet+int64(f.offset), int(f.size))
		}
		text := isoText(p.cut(int(f.offset), int(f.size)), wide, f.file)
		if f.name == "" {
			p.setLabel(text)
		} else {
			p.id(f.name, text)
		}
	}
	// When it was modified, or where that is not set, created.
	date := p.isoDate(830)
	if date == "" {
		date = p.isoDate(813)
	}
	p.setUUID(date)
	if at[isoSupplementary] != 0 {
		p.version("Joliet Extension")
	}
	if p.load(at[isoBoot], vsdSize); at[isoBoot] != 0 {
		p.id("BOOT_SYSTEM", cString(p.cut(7, 32)))
	}
	return true
}

// isoDate returns a date as a UUID, or "" if it is not set. Its 16 digits may be
// anything: it is encoded like every UUID.
func (p *probe) isoDate(offset int) string {
	if p.is(offset, "0000000000000000\x00") {
		return ""
	}
	date := cString(p.cut(offset, 16))
	for i := 4; i < len(date); i += 3 {
		date = date[:i] + "-" + date[i:]
	}
	return date
}

// isoText returns the text of a field of the primary descriptor, and of that of
// Joliet, if there is one. Where a file can be named, that counts as empty.
func isoText(field, wide []byte, file bool) string {
	plain := cString(field)
	empty := file && (trim(plain) == "" || plain[0] == '_')
	if text := utf16(wide, true); wide != nil && (!file || trim(text) != "" && text[0] != '_') {
		if empty {
			return text
		}
		return isoMerge(field, wide)
	}
	if empty {
		return ""
	}
	return plain
}

// isoMerge joins both forms of a text. That of Joliet has half as many characters
// of any kind, the plain one has _ for what is not ASCII, and may have capitals
// only. It returns the one of Joliet unless that is the begin of the other.
func isoMerge(plain, joliet []byte) string {
	out := ""
	wide := joliet
	for _, c := range plain {
		next := string([]byte{0, c})
		if len(wide) >= 2 {
			pair := 2
			if len(wide) >= 4 && wide[0]&0xfc == 0xd8 && wide[2]&0xfc == 0xdc {
				pair = 4
			}
			high, low := wide[pair-2], wide[pair-1]
			same := high == 0 && capital(c) == capital(low)
			if c == '_' || same && c <= 'Z' {
				next = string(wide[:pair])
			} else if !same && (high != 0 || low != '_') {
				return utf16(joliet, true)
			}
			wide = wide[pair:]
		}
		out += next
	}
	return utf16([]byte(out), true)
}
