package conf

import "strings"

// foreign returns what a text is that is no config at all, and the remedy, or "". Of
// such a text no line is read, or each would be a problem.
func foreign(text string) (what, remedy string) {
	// In UTF-16 each letter of ASCII has a NUL beside it, so the begin tells enough.
	head := text[:min(len(text), 512)]
	nuls := strings.Count(head, "\x00")
	end := strings.IndexByte(text, '\r')
	switch {
	case nuls > 0 && nuls == len(head):
		return "there are NUL bytes in place of text, as a crash can leave them", "write the file anew"
	case strings.HasPrefix(text, "\xff\xfe"), strings.HasPrefix(text, "\xfe\xff"), nuls > 0 && 3*nuls >= len(head):
		return "this is UTF-16, or UTF-32", "save it as UTF-8, or use iconv -f UTF-16 -t UTF-8"
	case end >= 0 && end < len(text)-1 && strings.IndexByte(text, '\n') < 0:
		return "the lines end in carriage returns without newlines, so that this is one line", "use tr '\\r' '\\n'"
	}
	return "", ""
}

// isUdevs reports whether a line begins as udev's rules do: KEY{ATTRIBUTE}=="VALUE", where
// other operators may stand for the ==. The line is none of mdev's then, to which these are a
// device's name with quotes in it. A condition of ours ends in a semicolon after the quotes.
func isUdevs(line string) bool {
	left, right, quoted := strings.Cut(line, `"`)
	left = strings.Trim(left, " \t")
	key := strings.TrimRight(left, "=!+:-")
	name, attribute, braced := strings.Cut(strings.TrimRight(key, " \t"), "{")
	_, rest, closed := strings.Cut(right, `"`)
	return quoted && strings.HasSuffix(left, "=") &&
		name != "" && strings.Trim(name, upper+"_") == "" && braced == strings.HasSuffix(attribute, "}") &&
		closed && (rest == "" || strings.IndexByte(", \t", rest[0]) >= 0)
}

// rejectUdevRules makes one problem of many where most of the rules of a file are udev's.
func (p *parser) rejectUdevRules() {
	if c := p.config; p.udevs > max(1, len(c.rules)-p.fileRules) && p.udev >= p.fileProblems {
		c.Problems[p.fileProblems] = c.Problems[p.udev]
		c.Problems, c.rules = c.Problems[:p.fileProblems+1], c.rules[:p.fileRules]
		c.Problems[p.fileProblems].What = "this is a file of udev's rules, none of which is used"
		p.closed = false
		if p.matches != nil {
			p.matches = p.matches[:p.fileRules]
		}
	}
}
