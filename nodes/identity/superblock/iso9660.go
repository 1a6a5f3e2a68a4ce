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

// isoNames lists the fields with names. Those of people are left out where they
// are empty or name a file, which begins with _.
var isoNames = [...]struct {
	name       string
	start, end int
	people     bool
}{
	{"SYSTEM", 8, 40, false},
	{"VOLUME_SET", 190, 318, false},
	{"PUBLISHER", 318, 446, true},
	{"DATA_PREPARER", 446, 574, true},
	{"APPLICATION", 574, 702, true},
}

func probeISO(p *probe, _ magic) bool {
	var boot, primary, joliet []byte
	for i := range int64(maxVSDs) {
		b := p.at(vsdOffset+i*vsdSize, vsdSize)
		if b == nil || b[0] == isoEnd {
			break
		}
		switch {
		case b[0] == isoBoot && boot == nil:
			boot = b
		case b[0] == isoPrimary && primary == nil:
			primary = b
		case b[0] == isoSupplementary && joliet == nil:
			switch string(b[88:91]) {
			case "%/@", "%/C", "%/E":
				joliet = b
			}
		}
	}
	if primary == nil {
		return false
	}
	block := uint64(le.Uint16(primary[128:]))
	p.setBlockSize(block)
	p.setSize(uint64(le.Uint32(primary[80:])) * block)
	for _, f := range isoNames {
		plain, wide := primary[f.start:f.end], []byte(nil)
		if joliet != nil {
			wide = joliet[f.start:f.end]
		}
		if f.people {
			if wide != nil && (trimRight(decode(wide, utf16BE)) == "" && wide[1] != 0 || wide[0] == 0 && wide[1] == '_') {
				wide = nil
			}
			if plain[0] == '_' || trimRight(cString(plain)) == "" {
				plain = nil
			}
		}
		p.setID(f.name, isoText(plain, wide))
	}
	if date := isoDate(primary[830:847]); date != "" {
		p.setUUIDText(date)
	} else {
		p.setUUIDText(isoDate(primary[813:830]))
	}
	if boot != nil {
		p.setID("BOOT_SYSTEM", cString(boot[7:39]))
	}
	wide := []byte(nil)
	if joliet != nil {
		p.setVersion("Joliet Extension")
		wide = joliet[40:72]
	}
	p.setLabelText(isoText(primary[40:72], wide))
	return true
}

// isoDate returns a date as a UUID, or "" if it is not set. Its 16 digits may be
// anything: it is encoded like every UUID.
func isoDate(b []byte) string {
	unset := b[16] == 0
	for _, c := range b[:16] {
		unset = unset && c == '0'
	}
	if unset || allZero(b[:16]) {
		return ""
	}
	out := make([]byte, 0, 22)
	for i, c := range b[:16] {
		if i >= 4 && i%2 == 0 {
			out = append(out, '-')
		}
		out = append(out, c)
	}
	return cString(out)
}

// isoText returns the text of a field of the primary descriptor, plain, and that
// of Joliet. Either may be nil.
func isoText(plain, wide []byte) string {
	switch {
	case wide == nil:
		return cString(plain)
	case plain != nil:
		if merged := isoMerge(plain, wide); merged != nil {
			wide = merged
		}
	}
	return decode(wide, utf16BE)
}

// isoMerge joins both forms of a text. That of Joliet has half as many characters
// of any kind, the plain one has _ for what is not ASCII, and may have capitals
// only. It returns nil unless the one of Joliet is the begin of the other.
func isoMerge(plain, wide []byte) []byte {
	out := make([]byte, 0, 320)
	for len(wide) >= 2 && len(plain) > 0 {
		if len(wide) >= 4 && wide[0]&0xfc == 0xd8 && wide[2]&0xfc == 0xdc {
			out = append(out, wide[0], wide[1])
			wide = wide[2:]
		}
		c := plain[0]
		switch {
		case c == '_':
			out = append(out, wide[0], wide[1])
		case wide[0] == 0 && wide[1] == '_':
			out = append(out, 0, c)
		case wide[0] == 0 && capital(c) == capital(wide[1]):
			if c >= 'A' && c <= 'Z' {
				c = wide[1]
			}
			out = append(out, 0, c)
		default:
			return nil
		}
		plain, wide = plain[1:], wide[2:]
	}
	for _, c := range plain {
		out = append(out, 0, c)
	}
	return out
}

func capital(c byte) byte {
	if c >= 'a' && c <= 'z' {
		c -= 'a' - 'A'
	}
	return c
}
