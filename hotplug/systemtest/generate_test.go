package systemtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"devspool/hotplug/kerneltest"
)

// generator makes random configs in the grammar of mdev.conf and devices that
// they are about. It keeps to what BusyBox and the program must agree in; where a
// mend would show, it leaves that combination out, and says so.
type generator struct {
	*rand.Rand
	coldplug bool // for a scan, in which BusyBox gives rules and commands no variables
}

// mends lists where the program differs from BusyBox on purpose, for whoever
// looks at a difference, and what the comparison does about it: each as narrow as
// can be. Tests elsewhere show what the program does instead.
var mends = []struct{ what, here string }{
	{"the implicit rule 0:0 660 undoes a device's rules if all of them began with -",
		"a config with a - rule ends in an explicit rule for all"},
	{"a - rule for all that has a command gives the device's own name an owner and a mode, where the rules after it " +
		"leave that alone",
		"a config with such a rule has no target and no !"},
	{"an @maj,min rule holds on add only, so that a node that it moved stays on remove",
		"a config with an @maj,min rule meets only add events"},
	{"a node that a rule for ACTION=add made stays on remove, for which other rules hold",
		"a config that asks for ACTION meets no remove"},
	{"chown and chmod of a later rule follow the link that an earlier - rule made, and the link of a later rule " +
		"finds its place taken by the node that an earlier - rule made",
		"a config with a - rule has no > target"},
	{"after a - rule with ! no @maj,min rule holds",
		"a config with such a rule has no @maj,min rule"},
	{"after a - rule with ! MDEV is the target that a later rule names, though no node is made there",
		"a config with such a rule has no target"},
	{"an existing node of other numbers is taken for success, so the first of two devices at one path wins",
		"each target holds its rule's number and the device's name"},
	{"the link of a nested DEVNAME leads astray",
		"its text is compared without the leading ../, and a missing link of BusyBox's is no difference"},
	{"empty directories stay after the last remove",
		"empty directories are not compared"},
	{"a name without a rule keeps its !",
		"all is compared with / for !"},
	{"chown comes after chmod and takes the set-id bits away",
		"these two bits are not compared"},
	{"-s gives no variables but ACTION, SUBSYSTEM and MDEV to rules and commands",
		"configs for a scan use only these"},
	{"-s takes the numbers of a device without DEVNAME for its name",
		"devices of a scan have one"},
	{"-s leaves out devices without numbers",
		"such devices are not part of a scan"},
	{"BusyBox crashes on some empty groups",
		"a case that ends BusyBox by a signal is passed over, and counted"},
}

// deviceNames are the stems that devices and regular expressions are made of, so
// that most rules match something.
var deviceNames = []struct {
	stem, subsystem, dir string
	block, number        bool
}{
	{stem: "sd", subsystem: "block", block: true},
	{stem: "loop", subsystem: "block", block: true, number: true},
	{stem: "mmcblk", subsystem: "block", block: true, number: true},
	{stem: "ttyS", subsystem: "tty", number: true},
	{stem: "video", subsystem: "video4linux", number: true},
	{stem: "event", subsystem: "input", dir: "input/", number: true},
	{stem: "pcmC0D", subsystem: "sound", dir: "snd/", number: true},
	{stem: "c0d", subsystem: "block", dir: "cciss!", block: true, number: true},
	{stem: "a.b-", subsystem: "misc", number: true},
}

// devices returns n random devices, no two of the same name or numbers.
func (g *generator) devices(n int) []kerneltest.Device {
	var all []kerneltest.Device
	seen := map[string]bool{}
	for i := 0; len(all) < n; i++ {
		k := deviceNames[g.IntN(len(deviceNames))]
		name := k.stem + strconv.Itoa(g.IntN(12))
		if !k.number {
			name = k.stem + letters(g.IntN(30))
		}
		if seen[name] || g.coldplug && strings.Contains(k.dir, "!") {
			continue
		}
		seen[name] = true
		d := kerneltest.Device{
			Devpath: "/devices/virtual/" + k.subsystem + "/" + strings.ReplaceAll(k.dir+name, "/", "!"), Subsystem: k.subsystem,
			Devname: k.dir + name, Block: k.block, Major: uint32(1 + g.IntN(250)), Minor: uint32(i),
		}
		if !strings.Contains(k.dir, "!") {
			d.Devpath = "/devices/virtual/" + k.subsystem + "/" + name
		}
		if g.IntN(3) == 0 {
			d.Devtype = []string{"disk", "partition", "usb_device"}[g.IntN(3)]
		}
		if strings.Contains(d.Devname, "!") || !g.coldplug && g.IntN(8) == 0 {
			d.Devname = "" // an old kernel says none; the node takes the directory's name
		}
		for v := range g.IntN(3) {
			d.Extra = append(d.Extra, fmt.Sprintf("V%d=%s", v, []string{"one", "two words", "", "3", "a;b", "x$y"}[g.IntN(6)]))
		}
		all = append(all, d)
	}
	if !g.coldplug && g.IntN(2) == 0 {
		all = append(all, kerneltest.Device{
			Devpath: "/devices/virtual/net/eth" + strconv.Itoa(g.IntN(4)), Subsystem: "net", Extra: []string{"INTERFACE=eth", "IFINDEX=2"},
		})
	}
	return all
}

// pick returns one of the choices.
func pick[T any](g *generator, choices ...T) T { return choices[g.IntN(len(choices))] }

// forAll is the rule that BusyBox ends every config with, made explicit.
const forAll = ".* 0:0 660"

// rule is one generated rule and what it has of the things that mends are about.
type rule struct {
	line string

	dash    bool // goes on after a match
	numbers bool // matches by numbers
	add     bool // may match on some actions only
	hide    bool // makes no node
	link    bool // leaves a link
	target  bool // names another place
	looksOn bool // is for every device, and there for its command
}

// config returns random rules for the devices. Each says its number in the log
// that its command writes to.
func (g *generator) config(devices []kerneltest.Device, log string) []rule {
	for {
		var rules []rule
		for i := range 1 + g.IntN(7) {
			rules = append(rules, g.rule(i, devices, log))
		}
		if mended(rules) {
			continue
		}
		if has(rules, func(r rule) bool { return r.dash }) {
			rules = append(rules, rule{line: forAll})
		}
		return rules
	}
}

// mended reports whether rules together meet a mend.
func mended(rules []rule) bool {
	dash := has(rules, func(r rule) bool { return r.dash })
	dashHide := has(rules, func(r rule) bool { return r.dash && r.hide })
	switch {
	case dash && has(rules, func(r rule) bool { return r.link }):
	case dashHide && has(rules, func(r rule) bool { return r.numbers || r.target }):
	case has(rules, func(r rule) bool { return r.looksOn }) && has(rules, func(r rule) bool { return r.hide || r.target }):
	default:
		return false
	}
	return true
}

func has(rules []rule, is func(rule) bool) bool { return slices.ContainsFunc(rules, is) }

// rule returns one random rule, with a comment or a useless line after it at times.
func (g *generator) rule(number int, devices []kerneltest.Device, log string) rule {
	d := devices[g.IntN(len(devices))]
	r := rule{dash: g.IntN(4) == 0}
	match, groups, numbers := g.match(d)
	whole := !numbers && !strings.Contains(match, "$") // %0 is the device's name
	r.numbers, r.add = numbers, strings.Contains(match, "ACTION=")
	if r.dash {
		match = "-" + match
	}
	gap := func() string { return pick(g, " ", " ", "\t", "   ") }
	r.line = match + gap() + g.owner() + gap() + g.mode()
	last := ""
	if g.IntN(2) == 0 {
		last = g.target(number, groups, whole)
		r.hide, r.link, r.target = last == "!", last[0] == '>', last != "!"
	}
	if g.IntN(2) == 0 {
		if last != "" {
			last += gap()
		}
		last += g.command(number, groups, log)
		r.looksOn = !r.hide && !r.target && (match == "-.*" || match == "-(.*)")
	}
	if last != "" {
		r.line += gap() + last
	}
	r.line = g.dress(r.line, last == "")
	return r
}

// dress gives a line blanks, breaks and comments that do not matter.
func (g *generator) dress(line string, short bool) string {
	switch g.IntN(12) {
	case 0:
		line = pick(g, "  ", "\t") + line
	case 1:
		line = strings.Replace(line, " ", " \\\n ", 1)
	case 2:
		if short {
			line += " # note"
		}
	case 3:
		line += "\n" + pick(g, "# comment", "", "   ", "\t# indented", "toofew 0:0")
	}
	return line
}

// match returns field 1 for the device or one like it, and how many groups it has.
func (g *generator) match(d kerneltest.Device) (match string, groups int, at bool) {
	var prefix strings.Builder
	for range g.IntN(3) {
		if g.IntN(2) == 0 {
			prefix.WriteString(g.condition(d))
		}
	}
	if d.HasNumbers() && g.IntN(8) == 0 {
		numbers := fmt.Sprintf("@%d,%d", d.Major, d.Minor)
		if g.IntN(2) == 0 {
			numbers = fmt.Sprintf("@%d,%d-%d", d.Major, max(0, int(d.Minor)-g.IntN(3)), int(d.Minor)+g.IntN(3))
		}
		return prefix.String() + numbers, 0, true
	}
	if !g.coldplug && g.IntN(6) == 0 {
		re, n := g.variableERE(d)
		return prefix.String() + re, n, false
	}
	name := d.Devname
	if name == "" {
		name = d.Devpath[strings.LastIndexByte(d.Devpath, '/')+1:]
	}
	re, n := g.ere(name)
	return prefix.String() + re, n, false
}

// condition returns a prefix NAME=ERE;.
func (g *generator) condition(d kerneltest.Device) string {
	choices := []string{"SUBSYSTEM=" + d.Subsystem + ";", "SUBSYSTEM=^" + d.Subsystem[:1] + ";", "SUBSYSTEM=.;", "SUBSYSTEM=nosuch;", "NOSUCH=.*;"}
	if !g.coldplug {
		choices = append(choices, "DEVTYPE=disk;", "DEVTYPE=part|disk;", "V0=;", "V0=o;", "V1=^(one|3)$;", "ACTION=add;", "ACTION=remove|change;", "DEVPATH=/virtual/;")
	}
	return pick(g, choices...)
}

func (g *generator) variableERE(d kerneltest.Device) (re string, groups int) {
	switch g.IntN(4) {
	case 0:
		return "$SUBSYSTEM=" + d.Subsystem, 0
	case 1:
		return "$SUBSYSTEM=(.)(.*)", 2
	case 2:
		return "$V0=(one|two.words)", 1
	}
	return "$DEVTYPE=(d)isk", 1
}

// ere returns a regular expression that matches name, or nearly does.
func (g *generator) ere(name string) (re string, groups int) {
	var b strings.Builder
	word := strings.TrimRight(name, "0123456789")
	digits := name[len(word):]
	switch g.IntN(8) {
	case 0:
		return ".*", 0
	case 1:
		return pick(g, "nosuch", "x*", "^nosuch$"), 0
	case 2:
		b.WriteString(quoteERE(name))
		return b.String(), 0
	case 3:
		return "(.*)", 1
	case 4:
		return "(" + quoteERE(word) + "|nosuch)" + "([0-9]*)", 2
	case 5:
		re = quoteERE(word) + pick(g, "[0-9]*", "([[:digit:]]+)?", ".?", "[^x]{0,3}", "(0|1|2|3|4|5)?.?", `\w*`)
		return re, strings.Count(re, "(")
	}
	for _, r := range word {
		b.WriteString(pick(g, quoteERE(string(r)), quoteERE(string(r)), quoteERE(string(r)), ".", "["+string(r)+"x]"))
	}
	if digits == "" {
		return b.String(), 0
	}
	b.WriteString(pick(g, "([0-9]+)", "([0-9]{1,3})", "([[:digit:]]*)"))
	return b.String(), 1
}

// quoteERE quotes what a regular expression would take for more than a letter.
func quoteERE(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune(`.[](){}*+?|^$\`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (g *generator) owner() string {
	return pick(g, "0:0", "root:root", "1:2", "daemon:disk", "root:7", "9:disk", "daemon", "7", "4321", "65534:65533")
}

func (g *generator) mode() string {
	return pick(g, "660", "0640", "600", "666", "0", "0777", "4755", "1777", "2660",
		"u=rw", "a+x", "g-w", "o=u", "u+s", "g+s", "+t", "ug=rw,o=r", "a=", "u=rwx,g=,o=", "-w", "+X", "u-w,g+x")
}

// target returns a place for the node that no other rule and no other device can have.
func (g *generator) target(number, groups int, whole bool) string {
	if g.IntN(6) == 0 {
		return "!"
	}
	sign := pick(g, ">", "=")
	base := "d" + strconv.Itoa(number) + "/"
	switch {
	case g.IntN(3) == 0:
		return sign + base
	case whole && g.IntN(2) == 0:
		return sign + base + pick(g, "%0", "n%0", "%0/%0", "x/%0y")
	}
	return sign + base + g.groupText(groups) + "/"
}

// groupText returns a part of a path that uses the rule's groups.
func (g *generator) groupText(groups int) string {
	choices := []string{"x", "a-b", "100%%", "p%x"}
	for n := range groups {
		choices = append(choices, "g%"+strconv.Itoa(n+1), "g%"+strconv.Itoa(n+1)+"%"+strconv.Itoa(n+1)+"z")
	}
	return pick(g, choices...)
}

// command returns a command that writes what it was given to the log.
func (g *generator) command(number, groups int, log string) string {
	vars := "$ACTION|$SUBSYSTEM|$MDEV"
	if !g.coldplug {
		vars += "|$DEVPATH|$DEVNAME|$MAJOR|$MINOR|$DEVTYPE|$V0|$V1|$SEQNUM"
	}
	groupVars := ""
	for n := range groups {
		groupVars += " %" + strconv.Itoa(n+1)
	}
	echo := fmt.Sprintf(`echo "rule%d %s $PWD $(umask)%s" >>%s`, number, vars, groupVars, log)
	return pick(g, "@", "$", "*") + pick(g, echo, "false; "+echo, echo+" # not a comment to mdev", echo+"; exit 3")
}
