package nodes

import (
	"slices"
	"strconv"
	"strings"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// Work is what a Plan has to do with nodes.
type Work uint8

const (
	// None changes no node: the event is none of those that make or remove one.
	None Work = iota
	// Create makes the Plan's nodes and links and removes what the device had before.
	Create
	// Remove removes the device's nodes and links.
	Remove
)

// Plan is what the rules say of one event: plain data, which touches nothing. It has a field
// for each thing that a rule may ask for.
type Plan struct {
	Event *uevent.Event
	Work  Work

	// Late says that /sys does not confirm the event any more. Only the record changes for it.
	Late bool

	// Again says that no event of the device's own leads to the Plan: its paths are
	// made once more, and whether a remove has ended it stays as it was.
	Again bool

	// Persist says that what libudev's clients are told of the device is to outlive the
	// change from an initramfs to the root.
	Persist bool

	NoNames     bool // the device is to have no links but those that rules give it
	HasPriority bool
	Priority    int // of all its links, if HasPriority; those of Links have it already

	// Nodes and Links are to be made, or on Remove are those that the rules would
	// have made; what the record says of the device is removed in any case.
	Nodes []Node
	Links []Link

	// Attributes are set in order, after the nodes are there and before the commands run.
	Attributes []*Attribute

	// Commands run in order: after the nodes are there, on Remove before they go.
	Commands []Command

	// Tags are what clients' filters may ask for.
	Tags []Tag

	Rename     *Rename  // nil for a device that keeps its name
	Properties []string // KEY=VALUE, which rules give the device, in their order

	// Firmware is the path below the firmware directory that the device asks for, or "".
	Firmware string

	// Faults tells what the rules asked for and was refused, a line each.
	Faults []string

	// Failure is the last that could not be done for the event. The scheduler fills it in.
	Failure string

	// Lost are the paths of Nodes and Links that the device does not have, since
	// another one has them, or something is mounted there. Apply fills it in.
	Lost []string

	// Claimed are the paths of links that another device has. Actual fills it in, since
	// libudev's clients are told of them: when that device goes, this one gets them, and no
	// event of its own tells so.
	Claimed []string
}

// Rename is what a network interface is to be called, and the rule that says so.
type Rename struct {
	Name string
	Rule Origin
}

// Actual returns the Plan of what the device has: p itself, or where it lost paths a
// copy without these. A device that lost a node's path has the node at its own name.
func (p *Plan) Actual() *Plan {
	if len(p.Lost) == 0 {
		return p
	}
	a := *p
	a.Nodes, a.Links, a.Commands, a.Lost, a.Claimed = nil, nil, nil, nil, slices.Clip(p.Claimed)
	// A node whose path was lost goes to the device's own name, unless that is lost too, or is
	// no path.
	own := Name(p.Event)
	usable := CleanPath(own) && !p.lost(own)
	home := func(path string) string { // where what is at path leads to now
		if usable && p.lost(path) && p.hasNode(path) {
			return own
		}
		return path
	}
	for i := range p.Nodes {
		path := home(p.Nodes[i].Path)
		if p.lost(path) || a.hasNode(path) || path != p.Nodes[i].Path && p.hasNode(path) {
			continue
		}
		a.Nodes = append(a.Nodes, p.Nodes[i])
		a.Nodes[len(a.Nodes)-1].Path = path
	}
	for i := range p.Links {
		if l := p.Links[i]; !p.lost(l.Path) && !a.hasNode(l.Path) {
			l.Target = home(l.Target)
			a.Links = append(a.Links, l)
		} else if p.lost(l.Path) {
			a.Claimed = append(a.Claimed, l.Path)
		}
	}
	a.Commands = slices.Clone(p.Commands)
	for i := range a.Commands {
		a.Commands[i].Node = home(a.Commands[i].Node)
	}
	return &a
}

// lost reports whether Apply or Locate found that the device goes without a path of the Plan.
func (p *Plan) lost(path string) bool { return slices.Contains(p.Lost, path) }

// hasNode reports whether the Plan has a node at path.
func (p *Plan) hasNode(path string) bool {
	for i := range p.Nodes {
		if p.Nodes[i].Path == path {
			return true
		}
	}
	return false
}

// Claims reports whether p has a node or a link at path.
func (p *Plan) Claims(path string) bool {
	for i := range p.Links {
		if p.Links[i].Path == path {
			return true
		}
	}
	return p.hasNode(path)
}

// Node is a device node to make. Its type and numbers are its event's.
type Node struct {
	Path     string // below /dev: no leading slash, no "..", no empty part
	Mode     uint32 // permission bits, 0 to 07777
	UID, GID uint32
	Rule     Origin
}

// Owner returns the node's owner as chown takes it: 0:6.
func (n *Node) Owner() string {
	return strconv.FormatUint(uint64(n.UID), 10) + ":" + strconv.FormatUint(uint64(n.GID), 10)
}

// Link is a symbolic link to a node of the same Plan.
type Link struct {
	Path   string // below /dev, of the same form as Node.Path
	Target string // the node's path below /dev; the link's text is made relative to Path
	Rule   Origin

	// Name says that the device deserves the link by what it is (disk/by-uuid/X), and no
	// rule gives it.
	Name     bool
	Priority int // of several devices that want the link the one with the highest has it

	// Forced says that the link takes the place of whatever stands there, as a node does.
	// Else what is not ours is left alone.
	Forced bool
}

// Attribute is an attribute in sysfs to set: its value, or its mode and owner.
type Attribute struct {
	_        sys.NotComparable
	Path     string // below the device's directory, of the form that BadPath lets pass
	Value    string // or "" where Mode and the owner are to be set
	Mode     uint32 // permission bits, 0 to 0777
	UID, GID uint32
	Rule     Origin
}

// String shows what is done with the attribute.
func (a *Attribute) String() string {
	if a.Value != "" {
		return "set " + a.Path + " to " + a.Value
	}
	n := Node{UID: a.UID, GID: a.GID}
	return "give " + a.Path + " " + Octal(a.Mode) + " " + n.Owner()
}

// Tag is a word that rules give a device.
type Tag struct {
	Name string // of letters, digits, '_', '-' and '.'
	Rule Origin
}

// TagList returns the tags, each once, as the variable TAGS has them: ":a:b:", or ""
// for none.
func (p *Plan) TagList() string {
	if len(p.Tags) == 0 {
		return ""
	}
	all := ":"
	for i := range p.Tags {
		if name := p.Tags[i].Name; !strings.Contains(all, ":"+name+":") {
			all += name + ":"
		}
	}
	return all
}

// Command is one command of a rule.
type Command struct {
	Text     string // a line for the shell, or for execlineb
	Execline bool   // it is for execlineb, and never given to a shell
	Socket   string // where the event is to be sent, with nothing to run: a path, or @ and an abstract name; or ""
	Node     string // for $MDEV: the node's path below /dev
	Matched  string // the values that the command runs for, of variables that the event has several times: KEY=VALUE and a NUL each
	Exists   Exists
	Timeout  Seconds // it is killed then
	Patience Seconds // the later events of its device, and other commands, no longer wait for it then
	Detach   bool    // nothing waits for it
	Program  bool    // it is run even where the process could load the modules itself
	Rule     Origin
}

// Seconds is a time limit that a config sets. Zero stands for a config that says
// nothing.
type Seconds int

// Unlimited is the limit that a config sets by 0: there is none.
const Unlimited Seconds = -1

// directive returns " (name=N)", or "" where the config says nothing.
func (s Seconds) directive(name string) string {
	if s == 0 {
		return ""
	}
	return " (" + name + "=" + strconv.Itoa(max(0, int(s))) + ")"
}

// Exists says what to do with a command on add when its device was set up before.
type Exists uint8

const (
	// ExistsRun runs the command all the same, as BusyBox does.
	ExistsRun Exists = iota
	// ExistsMask leaves the command out and says nothing.
	ExistsMask
	// ExistsError leaves out this and every further command of the device, and logs an error.
	ExistsError
	// ExistsReport leaves the command out and logs an error.
	ExistsReport
)

// Origin names the place that a part of a Plan comes from.
type Origin struct {
	File string // "" for what no file says
	Line int    // from 1; 0 for what no file says
}

// String returns FILE:LINE, or for what no file says "built in", as --plan and warnings show it.
func (o Origin) String() string {
	if o.Line == 0 {
		return "built in"
	}
	return o.File + ":" + strconv.Itoa(o.Line)
}

// String shows the plan a line for each part, each with the rule that asks for it.
func (p *Plan) String() string {
	text := p.Event.Action + " " + p.Event.Devpath
	if !p.Event.Dev.IsZero() {
		text += " " + p.Event.Dev.String()
	}
	text = uevent.Printable(text) + "\n"
	commands := ""
	for i := range p.Commands {
		commands += planLine(p.Commands[i].String(), p.Commands[i].Rule)
	}
	verb := "make "
	if p.Work == Remove {
		verb = "clear "
		text += commands
	}
	for i := range p.Nodes {
		n := &p.Nodes[i]
		what := verb + "node " + n.Path
		if p.Work == Create {
			what += " " + Octal(n.Mode) + " " + n.Owner()
		}
		text += planLine(what, n.Rule)
	}
	for i := range p.Links {
		l := &p.Links[i]
		what := verb + "link " + l.Path + " -> " + Relative(l.Path, l.Target)
		if l.Priority != 0 {
			what += " (prio=" + strconv.Itoa(l.Priority) + ")"
		}
		text += planLine(what, l.Rule)
	}
	if p.NoNames {
		text += "  no names\n"
	}
	if p.HasPriority && !p.NoNames && len(p.Links) == 0 {
		text += "  names (prio=" + strconv.Itoa(p.Priority) + ")\n"
	}
	if p.Rename != nil {
		text += planLine("rename to "+p.Rename.Name, p.Rename.Rule)
	}
	for _, property := range p.Properties {
		text += "  property " + uevent.Printable(property) + "\n"
	}
	for i := range p.Tags {
		text += planLine("tag "+p.Tags[i].Name, p.Tags[i].Rule)
	}
	if p.Persist {
		text += "  persist\n"
	}
	for _, a := range p.Attributes {
		text += planLine(a.String(), a.Rule)
	}
	if p.Work != Remove {
		text += commands
	}
	if p.Firmware != "" {
		text += planLine("load firmware "+p.Firmware, Origin{})
	}
	for _, f := range p.Faults {
		text += "  refused: " + uevent.Printable(f) + "\n"
	}
	return text
}

// planLine returns a line of a plan's text: a part, and the rule that asks for it.
func planLine(part string, rule Origin) string {
	part = "  " + uevent.Printable(part)
	return part + strings.Repeat(" ", max(1, 48-len(part))) + rule.String() + "\n"
}

// String shows the command, with what directives say of it.
func (c *Command) String() string {
	text := "run " + c.Text
	if c.Socket != "" {
		text = "send to " + c.Socket
	}
	if c.Matched != "" {
		text += " (" + strings.Join(strings.Split(c.Matched[:len(c.Matched)-1], "\x00"), ", ") + ")"
	}
	if c.Exists != ExistsRun {
		text += " (if_exists=" + c.Exists.String() + ")"
	}
	text += c.Timeout.directive("timeout") + c.Patience.directive("patience")
	if c.Detach {
		text += " (detach=yes)"
	}
	if c.Program {
		text += " (modules=no)"
	}
	return text
}

// String returns the word that a config uses for x.
func (x Exists) String() string {
	return [...]string{"run", "mask", "error", "report"}[x]
}

// Octal writes a mode as ls and chmod know it: four digits.
func Octal(mode uint32) string {
	s := strconv.FormatUint(uint64(mode), 8)
	return strings.Repeat("0", max(0, 4-len(s))) + s
}

// Relative returns the text of a link at the path link that leads to target,
// both below /dev: "../cdrom" for ("snd/x", "cdrom").
func Relative(link, target string) string {
	for {
		// A directory in which both lie is no part of the text.
		dir, rest, nested := strings.Cut(link, "/")
		if !nested || !strings.HasPrefix(target, dir+"/") {
			return strings.Repeat("../", strings.Count(link, "/")) + target
		}
		link, target = rest, target[len(dir)+1:]
	}
}
