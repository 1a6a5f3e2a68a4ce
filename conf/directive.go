package conf

import (
	"strconv"
	"strings"

	"devspool/nodes"
)

// A directive is NAME=VALUE; before the device of a rule, with a name in small letters,
// which sets something of the rule. Directives without a device, on a line of their own,
// set the defaults of the whole config.

// directive is one of them. To add one, add an entry to directives and a field to
// rule, and have the planner use it.
type directive struct {
	name  string // in small letters
	where uint8
	parse func(r *rule, value string) (ok bool) // sets nothing where the value is none
	help  string                                // says what values there are
}

// Where a directive may stand.
const (
	inRule     = 1 << iota // before the device of a rule
	inDefaults             // without a device
)

// directives are all that there are, in the order in which a message lists them.
var directives = append([]directive{
	{"if_exists", inRule, parseExists, "use run, mask, error or report"},
	{"timeout", inRule | inDefaults, parseTimeout,
		"use a number of seconds, or 0 for no limit"},
	{"patience", inRule | inDefaults, parsePatience,
		"use a number of seconds, or 0 to wait for ever"},
	{"detach", inRule, parseDetach, "use yes"},
	{"modules", inRule | inDefaults, parseModules, "use no"},
	{"tag", inRule, parseTag, "use letters, digits, _ - and ."},
	{"persist", inRule, parsePersist, "use yes"},
	{"attr", inRule, parseSet, "use PATH:VALUE, with a path below the device's directory in /sys"},
	{"attrmode", inRule, parseSetMode, "use PATH:MODE, with a path as for attr"},
	{"jobs", inDefaults, parseJobs, "use a number from 1 to 1000"},
}, nameDirectives...)

// maxJobs is the largest number that jobs may set.
const maxJobs = 1000

// parseExists reads what to do where the device was set up before; see nodes.Exists.
func parseExists(r *rule, value string) bool {
	for x := nodes.ExistsRun; x <= nodes.ExistsReport; x++ {
		if value == x.String() {
			r.command.Exists = x
			return true
		}
	}
	return false
}

// parseTimeout reads when a command is killed, parsePatience for how long others wait for it.
func parseTimeout(r *rule, value string) bool  { return parseSeconds(&r.command.Timeout, value) }
func parsePatience(r *rule, value string) bool { return parseSeconds(&r.command.Patience, value) }

// parseSeconds reads a time limit. 0 is for none, which a Seconds writes as Unlimited: its own
// 0 is for a config that says nothing.
func parseSeconds(to *nodes.Seconds, value string) bool {
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		return false
	}
	if *to = nodes.Seconds(n); n == 0 {
		*to = nodes.Unlimited
	}
	return true
}

// parseDetach reads "yes". There is no "no": a directive that is not there says that.
func parseDetach(r *rule, value string) bool {
	r.command.Detach = value == "yes"
	return r.command.Detach
}

// parseModules leaves calls of modprobe to the program of that name.
func parseModules(r *rule, value string) bool {
	r.command.Program = value == "no"
	return r.command.Program
}

// parseTag reads a tag. No character that ends one in the variable TAGS (":a:b:") is let in.
func parseTag(r *rule, value string) bool {
	if value == "" || strings.Trim(value, inTag) != "" {
		return false
	}
	r.tags = append(r.tags, value)
	return true
}

// parsePersist reads "yes"; see nodes.Plan.
func parsePersist(r *rule, value string) bool {
	r.persist = value == "yes"
	return r.persist
}

// parseJobs reads how many commands may run at once.
func parseJobs(r *rule, value string) bool {
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil || n < 1 || n > maxJobs {
		return false
	}
	r.jobs = int(n)
	return true
}

// readDirective reads a directive that stands there into r; f is its value.
func (p *parser) readDirective(r *rule, where uint8, name string, f field) bool {
	known := ""
	for i := range directives {
		d := &directives[i]
		known += d.name + ", "
		switch {
		case d.name != name:
			continue
		case d.where&where == 0:
			what, remedy := " is set for the whole config", "write it on a line without a device"
			if where == inDefaults {
				what, remedy = " cannot be set for the whole config", "put it before a device"
			}
			p.problem(f.offset-len(name)-1, name+what, remedy)
			return false
		case d.parse(r, f.text):
			if at := strings.Index(f.text, "${"); at >= 0 && p.warnings != nil {
				p.problem(f.offset+at, "BusyBox takes ${ for a broken expression, and makes no node at all",
					"write $NAME, or do not give the file to BusyBox")
			}
			return true
		}
		p.problem(f.offset, name+" cannot be "+quote(f.text), d.help)
		return false
	}
	p.problem(f.offset-len(name)-1, "there is no directive "+quote(name),
		"use one of "+known+"or a variable of the event, in upper case")
	return false
}

// readDefaults reads a line of nothing but directives, and reports whether it is one. An
// owner and a mode may follow, for BusyBox: it takes the line for a rule of a device whose
// variables have these names, and there is none; while it complains of a line without them.
func (p *parser) readDefaults(fields [4]field, n int) bool {
	f := fields[0]
	for name, _, after, is := prefix(f); is && isDirective(name); name, _, after, is = prefix(f) {
		f = after
	}
	if f.text != "" || n != 1 && n != 3 {
		return false
	}
	f = fields[0]
	for name, value, after, is := prefix(f); is; name, value, after, is = prefix(f) {
		p.readDirective(&p.config.defaults, inDefaults, name, value)
		f = after
	}
	return true
}

// checkCapitals warns of a condition whose name is that of a directive but for capitals and
// the like. The kernel has a TIMEOUT too, so a name all in capitals has to have a value
// that the directive takes.
func (p *parser) checkCapitals(name string, f field) {
	for i := range directives {
		d := &directives[i]
		capitals := !strings.ContainsAny(name, lower)
		if !looksLike(name, d.name) || capitals && (name == "NAME" || !d.parse(&rule{}, f.text)) { // an input device has a NAME
			continue
		}
		p.problem(f.offset-len(name)-1, quote(name)+" is taken for a variable of the event", "write the directive in small letters, as "+d.name)
		return
	}
}

// looksLike reports whether a name is that of a directive but for capitals, underscores
// and an s at its end.
func looksLike(name, directive string) bool {
	for ; directive != ""; directive = directive[1:] {
		name = strings.TrimPrefix(name, "_")
		if directive[0] == '_' {
			continue
		}
		if name == "" || name[0]|0x20 != directive[0] {
			return false
		}
		name = name[1:]
	}
	return name == "" || name == "s" || name == "S"
}
