package conf

import (
	"strconv"
	"strings"

	"devspool/conf/ere"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// rule is one line of a config, with a field for each thing that a line may say.
type rule struct {
	continues bool // the rules after it are tried also where it matches
	ownerless bool // its owner and mode are there for the grammar, and say nothing

	env  []condition // NAME=ERE; all of them must hold
	kind matchKind
	name string   // the variable, for ofVariable
	expr ere.Expr // but for ofNumbers

	major, minor, maxMinor uint32 // for ofNumbers

	target  target
	node    nodes.Node    // but for its path
	when    byte          // the character that the command began with, or 0 for no command
	command nodes.Command // but for what the event says
	tags    []string
	persist bool
	jobs    int // of the whole config

	sets        []*nodes.Attribute // what it sets in /sys
	attributes  []condition        // of the device in /sys; all of them must hold
	links       []string           // templates of paths
	properties  []string           // KEY=TEMPLATE
	rename      string             // a template of an interface's name, or ""
	priority    int                // of all links of the device, if hasPriority
	hasPriority bool
	noNames     bool
}

// matchKind is what a rule looks at, besides its conditions.
type matchKind uint8

const (
	ofName     matchKind = iota // the device's name
	ofVariable                  // $NAME=ERE
	ofNumbers                   // @maj,min
)

// asksVariable reports whether the rule looks at more than the name and the numbers: at a
// variable of the event or an attribute, or sets attributes, or is for interfaces, which have no
// node. Such a rule is also for devices without numbers that a scan finds.
func (r *rule) asksVariable() bool {
	return r.kind == ofVariable || len(r.env) > 0 || len(r.attributes) > 0 || r.rename != "" || len(r.sets) > 0
}

// condition is a prefix NAME=ERE; of a rule, or if_attr=PATH:ERE;.
type condition struct {
	name  string // or the path
	value ere.Expr
}

// target is where a rule puts the node.
type target struct {
	kind    byte   // '=', '>', '!' or 0 for the device's own name
	path    string // may hold %0 to %9, and end in a slash
	expands bool   // whether it does hold one of them
}

// runsOn reports whether the command is for the action.
func (r *rule) runsOn(action string) bool {
	switch r.when {
	case '*', '&':
		return true
	case '@', '+':
		return action == uevent.Add
	case '$', '-':
		return action == uevent.Remove
	}
	return false
}

// parser reads a config line by line. It has a method for each part of the grammar, and one for
// each mistake that is told from others by more than the part it is in.
type parser struct {
	config *Config
	ids    IDs
	line   line

	file         string // that is read
	fileRules    int    // how many rules there were before it
	fileProblems int    // how many problems
	udevs        int    // how many of its lines are udev's rules
	udev         int    // the number of the first one's problem
	binary       bool   // a NUL was met in it

	unknown    map[string]bool // users and groups that were complained about
	conditions int             // and directives, of all rules
	closed     bool            // an earlier rule matches everything, and lets no other follow

	// What is wanted where warnings are problems too: these, as patterns, and field 1 of
	// each rule.
	warnings []ere.Expr
	matches  []string // by the place in config.rules
}

// problem notes a fault at an offset of the current line.
func (p *parser) problem(offset int, what, remedy string) {
	if len(p.config.Problems) == maxProblems {
		return
	}
	number, column := p.line.position(offset)
	p.config.Problems = append(p.config.Problems, Problem{p.file, number, column, what, remedy})
}

// readLine makes a rule of the current line, or notes why it cannot. It goes on
// after a fault, so that one run shows all of them.
func (p *parser) readLine() {
	fields, n := split(p.line.text)
	if n == 0 {
		p.checkComment()
		return
	}
	if at := strings.IndexByte(p.line.text, 0); at >= 0 {
		// One problem for each file is enough: where one line has NUL bytes, most have.
		if !p.binary {
			p.problem(at, "there is a NUL byte in the line, which is not used", "write the file anew, as text")
		}
		p.binary = true
		return
	}
	if isUdevs(p.line.text) {
		p.problem(fields[0].offset, "this is one of udev's rules", "write it as SUBSYSTEM=block;sd.* root:disk 660")
		if p.udevs++; p.udevs == 1 {
			p.udev = len(p.config.Problems) - 1
		}
		return
	}
	if p.readDefaults(fields, n) {
		return
	}
	if n < 3 {
		p.problem(fields[0].offset, "a rule has at least three fields, this has "+strconv.Itoa(n),
			"write: device, uid:gid, mode")
		return
	}
	r := rule{}
	r.node.Rule = nodes.Origin{File: p.file, Line: p.line.number}
	r.command.Rule = r.node.Rule
	ok := p.readMatch(&r, fields[0])
	r.node.UID, r.node.GID = p.readOwner(fields[1])
	for _, a := range r.sets {
		a.UID, a.GID = r.node.UID, r.node.GID
	}
	r.node.Mode = p.readMode(fields[2])
	if n == 4 && !p.readAction(&r, fields[3]) {
		ok = false
	}
	if !ok {
		return
	}
	// What looks on at every device, as with -.* 0:0 666 *logger "$ACTION", is no rule for its node.
	r.ownerless = r.continues && r.target.kind == 0 && r.unconditional() &&
		(r.when != 0 || strings.IndexByte(fields[0].text, ';') >= 0)
	if r.target.expands {
		p.checkGroups(&r, r.target.path, fields[3].offset+1, "stays as it is")
	}
	if len(r.links)+len(r.properties)+len(r.rename) > 0 {
		p.checkGroups(&r, fields[0].text[:strings.LastIndexByte(fields[0].text, ';')], fields[0].offset, "stands for nothing")
	}
	p.checkReach(&r, fields[0])
	if p.warnings != nil {
		p.checkRule(&r, fields[0], fields[n-1])
	}
	p.config.rules = append(p.config.rules, &r)
}

// checkComment warns of a comment that a backslash lets swallow what looks like a rule.
func (p *parser) checkComment() {
	for i, start := range p.line.joints {
		end := len(p.line.text)
		if i+1 < len(p.line.joints) {
			end = p.line.joints[i+1]
		}
		if _, n := split(p.line.text[start:end]); n > 0 {
			p.problem(start, "a backslash makes this line part of the comment above it",
				"take the backslash away, or begin this line with #")
			return
		}
	}
}

// checkReach warns of the first rule that an earlier one leaves nothing to match.
func (p *parser) checkReach(r *rule, f field) {
	if p.closed {
		p.problem(f.offset, "no event reaches this rule: one before it matches everything",
			`move it up, or begin the earlier one with "-"`)
		p.closed = false
	}
	if !r.continues && r.unconditional() {
		p.closed = true
	}
}

// unconditional reports whether the rule matches every device.
func (r *rule) unconditional() bool {
	return len(r.env)+len(r.attributes) == 0 && r.matchesAll()
}

// matchesAll reports whether the rule matches every device for which its conditions hold.
func (r *rule) matchesAll() bool {
	return r.kind == ofName && r.expr.MatchesAll()
}

// readMatch reads field 1.
func (p *parser) readMatch(r *rule, f field) bool {
	if f.text[0] == '-' {
		r.continues = true
		f = f.from(1)
	}
	ok := true
	for name, value, after, is := prefix(f); is; name, value, after, is = prefix(f) {
		if !p.readPrefix(r, name, value) {
			ok = false
		}
		f = after
	}
	switch {
	case f.text == "":
		p.problem(f.offset, "nothing says which device is meant", "add .* for every device")
		return false
	case f.text[0] == '@':
		return p.readNumbers(r, f) && ok
	case f.text[0] == '$':
		return p.readVariable(r, f) && ok
	}
	if strings.HasPrefix(f.text, "attr:") {
		p.problem(f.offset, quote(f.text)+" is taken for the name of a device", "write if_attr=PATH:EXPR;")
	}
	if name := identifier(f.text); name != "" && strings.HasPrefix(f.text[len(name):], "=") {
		p.problem(f.offset, quote(f.text)+" is taken for the name of a device",
			`end a condition with ";" and add the device, or .*`)
	}
	return p.readExpr(&r.expr, f, true) && ok
}

// prefix cuts the NAME=ERE; off with which f begins, if it does.
func prefix(f field) (name string, value, after field, is bool) {
	name = identifier(f.text)
	end := strings.IndexByte(f.text, ';')
	if name == "" || end < 0 || len(name) >= end || f.text[len(name)] != '=' {
		return "", field{}, f, false
	}
	return name, f.to(end).from(len(name) + 1), f.from(end + 1), true
}

// readPrefix reads a condition NAME=ERE; or a directive. f is what stands between '='
// and ';'.
func (p *parser) readPrefix(r *rule, name string, f field) bool {
	if p.conditions++; p.conditions > maxConditions {
		return false // and the config is not used
	}
	if isDirective(name) {
		return p.readDirective(r, inRule, name, f)
	}
	if p.warnings != nil {
		p.checkCapitals(name, f)
	}
	var value ere.Expr
	ok := p.readExpr(&value, f, false)
	r.env = append(r.env, condition{name, value})
	return ok
}

// The characters that names are made of.
const (
	lower = "abcdefghijklmnopqrstuvwxyz"
	upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	inTag = lower + upper + "0123456789_-."
)

// isDirective tells our own names from those of variables.
func isDirective(name string) bool {
	return strings.ContainsAny(name, lower) && !strings.ContainsAny(name, upper)
}

// identifier returns the identifier of C that s begins with, or "".
func identifier(s string) string {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return s[:i]
		}
	}
	return s
}

// readVariable reads $NAME=ERE.
func (p *parser) readVariable(r *rule, f field) bool {
	name := identifier(f.text[1:])
	after := 1 + len(name)
	if name == "" || !strings.HasPrefix(f.text[after:], "=") {
		p.problem(f.offset, `no variable and expression follow the "$"`, "write $NAME=ERE")
		return false
	}
	r.kind, r.name = ofVariable, name
	return p.readExpr(&r.expr, f.from(after+1), true)
}

// readExpr reads an expression.
func (p *parser) readExpr(to *ere.Expr, f field, whole bool) bool {
	e, warning, err := ere.Parse(f.text, whole)
	if err != nil {
		p.problem(f.offset+err.Offset, err.What, err.Remedy)
		return false
	}
	if warning != nil {
		p.problem(f.offset+warning.Offset, warning.What, warning.Remedy)
	}
	*to = e
	return true
}

// readNumbers reads @maj,min or @maj,min-min2.
func (p *parser) readNumbers(r *rule, f field) bool {
	r.kind = ofNumbers
	rest := f.from(1)
	var ok bool
	r.major, rest, ok = number(rest)
	if ok && strings.HasPrefix(rest.text, ",") {
		r.minor, rest, ok = number(rest.from(1))
	} else {
		ok = false
	}
	if !ok {
		p.problem(f.offset, quote(f.text)+" is no pair of numbers", "write @MAJOR,MINOR or @MAJOR,MINOR-MINOR")
		return false
	}
	r.maxMinor = r.minor
	if strings.HasPrefix(rest.text, "-") {
		if last, after, ok := number(rest.from(1)); ok {
			r.maxMinor, rest = last, after
		}
	}
	if rest.text != "" {
		p.problem(rest.offset, quote(rest.text)+" after the numbers is ignored", "take it away")
	}
	if r.maxMinor < r.minor {
		p.problem(f.offset, "the range of minor numbers is empty, so the rule never matches", "write the smaller one first")
	}
	return true
}

// number reads the decimal number that f begins with.
func number(f field) (n uint32, rest field, ok bool) {
	end := len(f.text) - len(strings.TrimLeft(f.text, "0123456789"))
	wide, err := strconv.ParseUint(f.text[:end], 10, 32)
	return uint32(wide), f.from(end), err == nil
}

// readOwner reads field 2. Whoever is unknown is root.
func (p *parser) readOwner(f field) (uid, gid uint32) {
	name, groupName, both := strings.Cut(f.text, ":")
	if both {
		uid, _ = p.readUser(f.to(len(name)))
		return uid, p.readGroup(f.from(len(name)+1), groupName)
	}
	return p.readUser(f)
}

// readUser returns a user, and its primary group or a group of the same number.
func (p *parser) readUser(f field) (uid, gid uint32) {
	if uid, ok := parseID(f.text); ok {
		if gid, ok = p.ids.primary(uid); !ok {
			gid = uid
		}
		return uid, gid
	}
	uid, gid, ok := p.ids.user(f.text)
	if !ok {
		p.unknownName("user", f)
	}
	return uid, gid
}

// readGroup returns the number of a group. f is where it stands, for a problem.
func (p *parser) readGroup(f field, name string) (gid uint32) {
	if gid, ok := parseID(name); ok {
		return gid
	}
	gid, ok := p.ids.groupID(name)
	if !ok {
		p.unknownName("group", f)
	}
	return gid
}

// unknownName notes an unknown user or group, each name once.
func (p *parser) unknownName(what string, f field) {
	key := what + " " + f.text
	if p.unknown[key] || f.text == "root" { // root is 0, with or without a passwd
		return
	}
	if p.unknown == nil {
		p.unknown = map[string]bool{}
	}
	p.unknown[key] = true
	p.problem(f.offset, "there is no "+what+" "+quote(f.text)+", root is used", "use its number, or add it to the system")
}

// readMode reads field 3.
func (p *parser) readMode(f field) uint32 {
	mode, ok := parseMode(f.text)
	if !ok {
		p.problem(f.offset, quote(f.text)+" is no mode, 660 is used", "write it as 0 to 7777 in octal, or as chmod takes it")
		return defaultMode
	}
	return mode
}

// readAction reads field 4. It reports false for what BusyBox drops the rule for:
// something that begins neither a target nor a command.
func (p *parser) readAction(r *rule, f field) bool {
	switch f.text[0] {
	case '=', '>', '!':
		end := strings.IndexAny(f.text, blanks)
		if end < 0 {
			end = len(f.text)
		}
		p.readTarget(r, f.to(end))
		f = f.from(end).skipBlanks()
		if f.text == "" || f.text[0] == '#' {
			return true
		}
	}
	if strings.IndexByte("@$*+&-", f.text[0]) < 0 {
		p.problem(f.offset, quote(f.text)+" is neither a target nor a command",
			"begin a target with = > or !, a command with @ (add), $ (remove) or * (always)")
		return false
	}
	text := f.from(1).skipBlanks()
	if text.text == "" {
		p.problem(f.offset, "the command is empty", "write the command, or take the "+quote(f.text)+" away")
		return true
	}
	if strings.HasPrefix(text.text, socketPrefix) && !p.readSocket(r, text.from(len(socketPrefix))) {
		return true
	}
	r.when, r.command.Text = f.text[0], text.text
	r.command.Execline = strings.IndexByte("+&-", r.when) >= 0 // mdevd's dialect, which no shell reads
	return true
}

// socketPrefix begins what is no command but the address of a socket.
const socketPrefix = "socket:"

// maxAddress is how long a socket's address may be, in bytes, as unix(7) has it.
const maxAddress = 107

// readSocket reads the address of a socket: a path, or @ and an abstract name.
func (p *parser) readSocket(r *rule, f field) bool {
	const remedy = "write socket:/PATH, or socket:@NAME for an abstract one"
	switch {
	case len(f.text) < 2 || f.text[0] != '/' && f.text[0] != '@' || strings.ContainsAny(f.text, blanks):
		p.problem(f.offset, quote(f.text)+" is no address of a socket, nothing is sent", remedy)
		return false
	case len(f.text) > maxAddress:
		p.problem(f.offset, "the address has more than "+strconv.Itoa(maxAddress)+" bytes, nothing is sent", "write a shorter one")
		return false
	}
	r.command.Socket = f.text
	return true
}

// readTarget reads where the node is to be, a path below /dev. One that could lead
// elsewhere is refused, and the device keeps its own name.
func (p *parser) readTarget(r *rule, f field) {
	path := below(f.text[1:])
	if f.text[0] == '!' {
		r.target.kind = '!'
		if path != "" {
			p.problem(f.offset+1, quote(path)+" after the ! is ignored", "put a blank between the ! and a command")
		}
		return
	}
	if why := nodes.Refusal(strings.TrimSuffix(path, "/")); why != "" {
		p.problem(f.offset, "the target "+quote(path)+" "+why+", the device keeps its own name",
			"write a path below /dev, without a slash before it")
		return
	}
	r.target = target{kind: f.text[0], path: path}
	for i := range len(path) {
		if _, ok := reference(path[i:]); ok {
			r.target.expands = true
		}
	}
}

// below returns a target as the path below /dev that it is, without parts that lead
// nowhere: /dev/snd/ and .//snd/ are snd/. A path to elsewhere stays as it is.
func below(path string) string {
	below, inDev := strings.CutPrefix(path, "/dev/")
	if !inDev && strings.HasPrefix(path, "/") {
		return path
	}
	below = "/" + below
	for _, nowhere := range [...]string{"//", "/./"} {
		for strings.Contains(below, nowhere) {
			below = strings.ReplaceAll(below, nowhere, "/")
		}
	}
	return below[1:]
}

// reference returns the N of the %N that s begins with.
func reference(s string) (n int, ok bool) {
	if len(s) < 2 || s[0] != '%' || s[1] < '0' || s[1] > '9' {
		return 0, false
	}
	return int(s[1] - '0'), true
}

// checkGroups warns of %N for which the expression has no group. The text that refers to
// them stands at an offset of the line.
func (p *parser) checkGroups(r *rule, text string, offset int, fate string) {
	highest := r.expr.Groups()
	if r.kind == ofNumbers {
		highest = -1
	}
	for i := range len(text) {
		if n, ok := reference(text[i:]); ok && n > highest {
			p.problem(offset+i, "the expression has no group for %"+strconv.Itoa(n)+", which "+fate,
				"put parentheses around what it stands for")
		}
	}
}

// quote puts text in quotes, for a message. What has to be escaped Problem.String escapes.
func quote(s string) string { return `"` + s + `"` }
