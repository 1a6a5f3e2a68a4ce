package modules

import (
	"strings"

	"devspool/hotplug/glob"
)

// match matches a pattern of a module's with a name. A dash of the pattern stands for an underscore as
// well: names are normalized before they are looked up, while patterns are matched as they lie in the
// file.
func match(pattern, name string) bool { return glob.Match(pattern, name, true) }

// normalize returns an alias or a name as the indexes have it, with dashes outside of
// brackets as underscores. Ok is false for what cannot be looked up.
func normalize(name string) (normal string, ok bool) {
	if len(name) == 0 || len(name) >= maxName || strings.IndexByte(name, 0) >= 0 {
		return "", false
	}
	if strings.IndexByte(name, '-') < 0 && strings.IndexByte(name, ']') < 0 && strings.IndexByte(name, '[') < 0 {
		return name, true
	}
	text := []byte(name)
	inside := false
	for i, c := range text {
		switch {
		case inside:
			inside = c != ']'
		case c == '[':
			inside = true
		case c == ']':
			return "", false
		case c == '-':
			text[i] = '_'
		}
	}
	return string(text), !inside
}

// maxName is how long an alias may be: a path's greatest length, as in kmod.
const maxName = 4096

// moduleName returns the kernel's name of the module in a file, or "" for a file whose name can be none.
func moduleName(path string) string {
	name, _ := normalize(fileKey(path))
	return name
}
