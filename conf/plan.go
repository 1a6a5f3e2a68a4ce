package conf

import (
	"slices"
	"strconv"
	"strings"

	"devspool/conf/ere"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Plan returns what the rules say of an event.
//
// The rules are tried from the first to the last. One that matches ends this,
// unless it began with "-"; so several may have their say: each adds its node,
// its link and its command, and where two speak of the same path the later
// counts. A "!" holds for the rest: no further node, while those that were given
// stay. Where no rule gave a node, one is made by the device's own name, as the
// kernel's DEVMODE, DEVUID and DEVGID say, or else 0660 for root.
//
// For a device with numbers, add and move make nodes and remove clears them. A
// remove without numbers that has a DEVNAME, or comes from a script (it has no
// SEQNUM), clears what the record holds, but the rules cannot say what that is. Every
// other action leaves nodes alone. Commands run whatever the device has: on add and
// remove as they say, those with "*" on every action.
func (c *Config) Plan(e *uevent.Event) *nodes.Plan { return c.plan(e, false) }

// PlanScan returns the Plan of an event that a scan of /sys made. Rules that match by
// name alone are not for its devices without numbers, which BusyBox leaves out.
func (c *Config) PlanScan(e *uevent.Event) *nodes.Plan { return c.plan(e, e.Dev.IsZero()) }

// plan tries the rules in order until one matches that does not let others follow. With
// onlyVariables, rules without a condition on a variable are left out.
func (c *Config) plan(e *uevent.Event, onlyVariables bool) *nodes.Plan {
	b := planner{config: c, event: e, plan: &nodes.Plan{Event: e, Work: work(e)}}
	b.setName()
	for _, r := range c.rulesFor(b.name) {
		if onlyVariables && !r.asksVariable() || !b.matches(r) {
			continue
		}
		b.apply(r)
		if !r.continues {
			break
		}
	}
	if b.makesNodes() {
		b.finishNodes()
	}
	b.addFirmware()
	return b.plan
}

// rulesFor returns the rules that are to be tried for a device of that name, in
// their order. Its first letter alone shows of most that they do not match.
func (c *Config) rulesFor(name string) []*rule {
	if name == "" {
		return c.rules
	}
	some, known := c.starts[name[0]]
	if !known {
		for _, r := range c.rules {
			if r.kind != ofName || r.expr.CanBegin(name[0]) {
				some = append(some, r)
			}
		}
		// Kept for all further events, and guarded by nothing: see Config.
		c.starts[name[0]] = some
	}
	return some
}

// work returns what an event asks to be done with nodes.
func work(e *uevent.Event) nodes.Work {
	switch e.Action {
	case uevent.Add, uevent.Move:
		if !e.Dev.IsZero() {
			return nodes.Create
		}
	case uevent.Remove:
		if !e.Dev.IsZero() || e.Devname != "" || e.Seqnum == 0 {
			return nodes.Remove
		}
	}
	return nodes.None
}

// planner makes the Plan of one event. It has a method for each thing that a rule may ask for,
// and for each that has to be checked when all rules have been tried.
type planner struct {
	config *Config
	event  *uevent.Event // with the properties that rules gave it so far; that of plan is as it came
	plan   *nodes.Plan

	name       string // what rules match
	own        string // the node's path where no rule moves it; "" where the name makes none
	suppressed bool   // a "!" was met
	nameless   bool   // a fault about the name was noted

	links []nodes.Link // of link=, without a target yet
}

// setName finds the device's name. The kernel writes '!' for a slash in names
// of sysfs; rules see it as it is, nodes do not.
func (b *planner) setName() {
	b.name = b.event.Devname
	if b.name == "" {
		b.name = b.event.Sysname()
	}
	if path := nodes.Slashes(b.name); nodes.Refusal(path) == "" {
		b.own = path
	}
}

// makesNodes reports whether the event is about nodes that rules can name.
func (b *planner) makesNodes() bool {
	return b.plan.Work != nodes.None && !b.event.Dev.IsZero()
}

// comes reports whether the event is one on which attributes are set: the device comes, or its
// driver, which may bring some of them. On a change they stay as somebody may have set them since.
func (b *planner) comes() bool { return b.event.Action == uevent.Add || b.event.Action == "bind" }

// matches reports whether all conditions of a rule hold. What costs least is
// looked at first.
func (b *planner) matches(r *rule) bool {
	switch r.kind {
	case ofNumbers:
		d := b.event.Dev
		if d.IsZero() || d.Major != r.major || d.Minor < r.minor || d.Minor > r.maxMinor {
			return false
		}
	case ofName:
		if !r.expr.MayMatch(b.name) {
			return false
		}
	}
	for i := range r.env {
		if !b.holds(r.env[i].name, &r.env[i].value) {
			return false
		}
	}
	switch {
	case r.kind == ofVariable && !b.holds(r.name, &r.expr):
		return false
	case r.kind == ofName && !r.expr.IsPlain() && !b.config.matcher.Match(&r.expr, b.name):
		return false
	}
	for i := 0; HasNames && i < len(r.attributes); i++ {
		if value, is := b.attribute(r.attributes[i].name); !is || !b.config.matcher.Match(&r.attributes[i].value, value) {
			return false
		}
	}
	return true
}

// attribute returns an attribute of the device, or of one above it: but for what is below
// /sys/devices nothing is above a device.
func (b *planner) attribute(path string) (value string, is bool) {
	if b.config.Attr == nil {
		return "", false
	}
	dir := b.event.Devpath
	for strings.HasPrefix(path, "../") {
		path, dir = path[len("../"):], dir[:strings.LastIndexByte(dir, '/')]
		if !strings.HasPrefix(dir+"/", "/devices/") {
			return "", false
		}
	}
	value, is = b.config.Attr(dir, path)
	return strings.TrimRight(value, " \t\n\v\f\r"), is
}

// holds reports whether one of a variable's values matches, with a short way to what
// most conditions ask for.
func (b *planner) holds(name string, p *ere.Expr) bool {
	if name == "SUBSYSTEM" && b.event.Subsystem != "" {
		return b.config.matcher.Match(p, b.event.Subsystem)
	}
	_, holds := b.firstOf(name, p)
	return holds
}

// firstOf returns the first value of a variable that matches, and whether one does.
func (b *planner) firstOf(name string, p *ere.Expr) (value string, found bool) {
	values := b.event.Values(name)
	for value, said := values.Next(); said; value, said = values.Next() {
		if b.config.matcher.Match(p, value) {
			return value, true
		}
	}
	return "", false
}

// apply adds what a rule that matches asks for.
func (b *planner) apply(r *rule) {
	for _, name := range r.tags {
		b.plan.Tags = append(b.plan.Tags, nodes.Tag{Name: name, Rule: r.node.Rule})
	}
	b.plan.Persist = b.plan.Persist || r.persist
	if b.comes() {
		b.plan.Attributes = append(b.plan.Attributes, r.sets...)
	}
	if HasNames {
		b.applyNames(r)
	}
	if r.target.kind == '!' {
		b.suppressed = true
	}
	runs := r.runsOn(b.event.Action)
	var moved string
	if !b.suppressed && (b.makesNodes() || runs) {
		moved = b.targetPath(r)
	}
	if !b.suppressed && b.makesNodes() {
		b.giveNode(r, moved)
	}
	if !runs {
		return
	}
	if moved == "" {
		moved = b.commandNode()
	}
	c := r.command // a copy: the rule is for other events too
	c.Node = moved
	defaults := &b.config.defaults.command
	if c.Timeout == 0 {
		c.Timeout = defaults.Timeout
	}
	if c.Patience == 0 {
		c.Patience = defaults.Patience
	}
	c.Program = c.Program || defaults.Program
	for _, c.Matched = range b.runs(r) {
		b.plan.Commands = append(b.plan.Commands, c)
	}
}

// applyNames adds what a rule that matches says of links, properties and an interface's
// name. A property that the event has, or an earlier rule gave it, stays; later rules can
// ask for it.
func (b *planner) applyNames(r *rule) {
	p := b.plan
	p.NoNames = p.NoNames || r.noNames
	if r.hasPriority {
		p.Priority, p.HasPriority = r.priority, true
	}
	for _, template := range r.properties {
		key, template, _ := strings.Cut(template, "=")
		if _, said := b.event.Get(key); !said {
			text, _ := b.fill(r, template)
			p.Properties = append(p.Properties, key+"="+text)
			b.event = p.Event.With(p.Properties)
		}
	}
	for _, template := range r.links {
		if path, complete := b.fill(r, template); complete && b.makesNodes() {
			b.links = append(b.links, nodes.Link{Path: path, Rule: r.node.Rule})
		}
	}
	if r.rename == "" || b.event.Action != uevent.Add || b.event.Subsystem != "net" {
		return
	}
	switch name, complete := b.fill(r, r.rename); {
	case !complete:
	case !isInterface(name):
		b.addFault(r.node.Rule.String() + ": " + quote(name) + " cannot be the name of an interface, which keeps its own")
	default:
		p.Rename = &nodes.Rename{Name: name, Rule: r.node.Rule}
	}
}

// once are the runs of a command for an event that says no variable twice.
var once = []string{""}

// runs returns how often the command of a rule that matches is to run: once, or where
// the event says a variable that the rule looks at several times, once for each
// different value that the rule matched. Each says which value it is for, as
// nodes.Command has it. To a socket the event goes once, with all that it says.
func (b *planner) runs(r *rule) []string {
	runs := once
	if r.command.Socket != "" {
		return runs
	}
	if r.kind == ofVariable {
		runs = b.times(runs, r.name, &r.expr)
	}
	for i := len(r.env) - 1; i >= 0; i-- { // of two for one variable the last counts
		runs = b.times(runs, r.env[i].name, &r.env[i].value)
	}
	return runs
}

// times returns each of runs once for each value of a variable that matches, if the
// event says it several times and they do not say which one they are for.
func (b *planner) times(runs []string, name string, p *ere.Expr) (all []string) {
	values := b.event.Values(name)
	values.Next()
	// All of runs are for the same variables, so the first speaks for them.
	if _, again := values.Next(); !again || strings.Contains("\x00"+runs[0], "\x00"+name+"=") {
		return runs
	}
	for _, run := range runs {
		values = b.event.Values(name)
		for value, said := values.Next(); said; value, said = values.Next() {
			more := run + name + "=" + value + "\x00"
			if b.config.matcher.Match(p, value) && !slices.Contains(all, more) {
				all = append(all, more)
			}
		}
	}
	return all
}

// giveNode adds the node that a rule gives, where it moves it or else by the
// device's own name, and the link that the rule asks for.
func (b *planner) giveNode(r *rule, moved string) {
	if r.ownerless {
		b.giveImplicit()
		return
	}
	path := moved
	if path == "" {
		if !b.requireName() {
			return
		}
		path = b.own
		if n := b.linked(path); n != nil { // the later rule's owner and mode, as through the link
			target := n.Path
			*n = r.node
			n.Path = target
			return
		}
	}
	b.addNode(&r.node, path)
	if r.target.kind != '>' || path == b.own || !b.requireName() {
		return
	}
	if n := b.linked(b.own); n != nil && n.Path != path {
		return // of several such rules the first one's link stays
	}
	if strings.HasPrefix(path, b.own+"/") || strings.HasPrefix(b.own, path+"/") {
		b.addFault(r.node.Rule.String() + ": the link " + quote(b.own) + " would stand in the way of " + quote(path) +
			", so it is not made")
		return
	}
	b.addLink(nodes.Link{Path: b.own, Target: path, Rule: r.node.Rule, Forced: true})
}

// targetPath returns where a rule moves the node, or "" where it does not.
func (b *planner) targetPath(r *rule) string {
	if r.target.kind != '=' && r.target.kind != '>' {
		return ""
	}
	path := r.target.path
	if r.target.expands && r.kind != ofNumbers {
		path = b.expand(r)
	}
	if strings.HasSuffix(path, "/") {
		path += nodes.Slashes(b.name)
	}
	why := nodes.Refusal(path)
	if why == "" {
		return path
	}
	b.addFault(r.node.Rule.String() + ": the target " + quote(path) + " " + why + ", the device keeps its own name")
	return ""
}

// expand puts the groups of what a rule matched into its target. A group that
// took no part leaves its %N as it is.
func (b *planner) expand(r *rule) string {
	g := b.groups(r)
	var out strings.Builder
	for path := r.target.path; path != ""; {
		n, isReference := reference(path)
		if !isReference {
			out.WriteByte(path[0])
			path = path[1:]
			continue
		}
		value, took := g.Group(n)
		if !took {
			value = path[:2]
		}
		out.WriteString(nodes.Slashes(value))
		path = path[2:]
	}
	return out.String()
}

// groups returns the groups of what a rule that is not of numbers matched.
func (b *planner) groups(r *rule) ere.Submatch {
	text := b.name
	if r.kind == ofVariable {
		text, _ = b.firstOf(r.name, &r.expr)
	}
	return b.config.matcher.Submatch(&r.expr, text)
}

// requireName reports whether the device's name can be a node's path, and notes a
// fault if not.
func (b *planner) requireName() bool {
	if b.own == "" && !b.nameless {
		b.nameless = true
		b.addFault("the device's name " + quote(b.name) + " " + nodes.Refusal(nodes.Slashes(b.name)) + ", so nothing is made by it")
	}
	return b.own != ""
}

// linked returns the node that an earlier rule moved from path, leaving a link
// there, or nil.
func (b *planner) linked(path string) *nodes.Node {
	for i := range b.plan.Links {
		l := &b.plan.Links[i]
		if l.Path != path {
			continue
		}
		for i := range b.plan.Nodes {
			if n := &b.plan.Nodes[i]; n.Path == l.Target {
				return n
			}
		}
	}
	return nil
}

// commandNode returns what a command learns of a device that no rule moves: the node's
// path, or for a device without numbers its name, but never one that leads out
// of /dev.
func (b *planner) commandNode() string {
	switch {
	case b.own == "":
		return b.event.Sysname()
	case b.event.Dev.IsZero():
		return b.name
	}
	return b.own
}

// addFault notes what the rules asked for and do not get. The rest of the Plan is carried out.
func (b *planner) addFault(text string) { b.plan.Faults = append(b.plan.Faults, text) }

// addNode gives path to a node like n, whatever an earlier rule gave it to.
func (b *planner) addNode(n *nodes.Node, path string) {
	b.free(path)
	b.plan.Nodes = append(b.plan.Nodes, *n)
	b.plan.Nodes[len(b.plan.Nodes)-1].Path = path
}

// addLink gives a path to a link, whatever an earlier rule gave it to.
func (b *planner) addLink(l nodes.Link) {
	b.free(l.Path)
	b.plan.Links = append(b.plan.Links, l)
}

// free takes a path from what has it: one node, or one link.
func (b *planner) free(path string) {
	p := b.plan
	for i := range p.Nodes {
		if p.Nodes[i].Path == path {
			p.Nodes = append(p.Nodes[:i], p.Nodes[i+1:]...)
			return
		}
	}
	for i := range p.Links {
		if p.Links[i].Path == path {
			p.Links = append(p.Links[:i], p.Links[i+1:]...)
			return
		}
	}
}

// giveImplicit adds the node that a device has where no rule gave it one.
func (b *planner) giveImplicit() {
	if len(b.plan.Nodes) == 0 && b.requireName() {
		mode, uid, gid := kernelSays(b.event)
		b.addNode(&nodes.Node{Mode: mode, UID: uid, GID: gid}, b.own)
	}
}

// finishNodes adds what no rule of the config has to ask for: the node of a
// device that none spoke of, and the link of the root file system's device. It adds the
// links of link= too, since it takes a node for them to lead to.
func (b *planner) finishNodes() {
	if !b.suppressed {
		b.giveImplicit()
	}
	for i := 0; HasNames && i < len(b.links); i++ {
		b.giveLink(&b.links[i])
	}
	b.addRoot()
	for i := range b.plan.Links {
		b.plan.Links[i].Priority = b.plan.Priority
	}
}

// giveLink adds a link of link= to the first node.
func (b *planner) giveLink(l *nodes.Link) {
	if len(b.plan.Nodes) == 0 {
		return
	}
	other, why := b.overlap(l.Path), nodes.Refusal(l.Path)
	switch {
	case why != "":
	case other == "":
		l.Target = b.plan.Nodes[0].Path
		b.addLink(*l)
		return
	case other == l.Path:
		return // it leads here already
	default:
		why = "and " + quote(other) + " stand in each other's way"
	}
	b.addFault(l.Rule.String() + ": the link " + quote(l.Path) + " " + why + ", so it is not made")
}

// addRoot adds the link of the root file system's device, as BusyBox's mdev does.
func (b *planner) addRoot() {
	d := b.event.Dev
	if !d.Block || d != b.config.Root || len(b.plan.Nodes) == 0 || b.overlap("root") != "" {
		return
	}
	b.addLink(nodes.Link{Path: "root", Target: b.plan.Nodes[0].Path, Forced: true})
}

// overlap returns the path of the Plan that is the same one, or lies above or below it, or "".
func (b *planner) overlap(path string) string {
	for i := range len(b.plan.Nodes) + len(b.plan.Links) {
		var other string
		if i < len(b.plan.Nodes) {
			other = b.plan.Nodes[i].Path
		} else {
			other = b.plan.Links[i-len(b.plan.Nodes)].Path
		}
		if isAtOrBelow(path, other) || isAtOrBelow(other, path) {
			return other
		}
	}
	return ""
}

// isAtOrBelow reports whether a clean path is the other one, or lies below it.
func isAtOrBelow(path, above string) bool {
	return strings.HasPrefix(path, above) && (len(path) == len(above) || path[len(above)] == '/')
}

// kernelSays returns the mode and owner that the kernel wants for a node, as
// devtmpfs uses them. It names them only where they differ from its defaults.
func kernelSays(e *uevent.Event) (mode, uid, gid uint32) {
	mode = defaultMode
	if !e.Asks {
		return mode, uid, gid
	}
	if text, set := e.Get("DEVMODE"); set {
		if n, err := strconv.ParseUint(text, 8, 12); err == nil {
			mode = uint32(n)
		}
	}
	if text, set := e.Get("DEVUID"); set {
		uid = idOrRoot(text)
	}
	if text, set := e.Get("DEVGID"); set {
		gid = idOrRoot(text)
	}
	return mode, uid, gid
}

// idOrRoot reads the number of a user or group. What is none is root: a node must not go to a
// user by mistake.
func idOrRoot(text string) uint32 {
	if id, ok := parseID(text); ok {
		return id
	}
	return 0
}

// addFirmware notes what a driver asks for when its device is added.
func (b *planner) addFirmware() {
	if b.event.Action != uevent.Add || !b.event.Asks {
		return
	}
	name, set := b.event.Get("FIRMWARE")
	if !set {
		return
	}
	if why := nodes.BadPath(name); why != "" {
		b.addFault("the firmware " + quote(name) + " " + why + ", so it is not loaded")
		return
	}
	b.plan.Firmware = name
}
