package superblock

// ISO 9660 (ECMA-119) with the Joliet extension: volume descriptors of 2 KiB from
// 32 KiB on.

var isoFormat = format{
	name: "iso9660", usage: filesystem, tolerant: true,
	magics: []magic{{vsdOffset + 1, "CD001"}},
	probe:  probeISO,
}

const (
	isoBoot          = 0
	isoPrimary       = 1
	isoSupplementary = 2
	isoEnd           = 255
)

// isoNames lists the fields with names. The last three may name a file instead,
// which begins with _.
var isoNames = [...]struct {
	name         string
	offset, size int
}{
	{"SYSTEM", 8, 32},
	{"VOLUME_SET", 190, 128},
	{"PUBLISHER", 318, 128},
	{"DATA_PREPARER", 446, 128},
	{"APPLICATION", 574, 128},
}

func probeISO(p *probe) bool {
	var boot string
	var primary, joliet []byte
	for i := range int64(maxVSDs) {
		if !p.load(vsdOffset+i*vsdSize, vsdSize) {
			break
		}
		switch kind := p.b[0]; {
		case kind == isoEnd:
			i = maxVSDs
		case kind == isoBoot && boot == "":
			boot = cString(p.cut(7, 32))
		case kind == isoPrimary && primary == nil:
			primary = p.b
		case kind == isoSupplementary && joliet == nil && (p.is(88, "%/@") || p.is(88, "%/C") || p.is(88, "%/E")):
			joliet = p.b
		}
	}
	if primary == nil {
		return false
	}
	p.b = primary
	block := p.u(128, 2)
	p.sizes(block, 0, p.u(80, 4)*block)
	for i, f := range isoNames {
		p.id(f.name, isoText(primary, joliet, f.offset, f.size, i >= 2))
	}
	if date := p.isoDate(830); date != "" {
		p.setUUID(date)
	} else {
		p.setUUID(p.isoDate(813))
	}
	p.id("BOOT_SYSTEM", boot)
	if joliet != nil {
		p.version("Joliet Extension")
	}
	p.setLabel(isoText(primary, joliet, 40, 32, false))
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

// isoText returns the text of a field of the primary descriptor and that of
// Joliet, which may be nil. Where a file can be named, that counts as empty.
func isoText(primary, joliet []byte, offset, size int, file bool) string {
	field := primary[offset:][:size]
	plain := cString(field)
	empty := trim(plain) == "" || plain[0] == '_'
	if joliet != nil {
		wide := joliet[offset:][:size]
		text := utf16(wide, true)
		if !file || trim(text) != "" && text[0] != '_' {
			if file && empty {
				return text
			}
			return isoMerge(field, wide)
		}
	}
	if file && empty {
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
