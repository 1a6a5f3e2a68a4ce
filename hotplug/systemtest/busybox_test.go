package systemtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
)

// step is one event of a case: what befalls which device. A step that makes no
// sense when its time comes (a remove of what is not there) is passed over, so
// that any part of a case is a case.
type step struct {
	device int
	action string
}

// trial is one random case of the comparison.
type trial struct {
	rules   []string
	devices []kerneltest.Device
	steps   []step
}

func (c trial) conf() string { return strings.Join(c.rules, "\n") }

// newTrial makes a random case.
func newTrial(r *rand.Rand, coldplug bool) trial {
	g := &generator{Rand: r, coldplug: coldplug}
	c := trial{devices: g.devices(1 + g.IntN(4))}
	rules := g.config(c.devices, "/run/log")
	actions := []string{"add", "add", "change", "bind", "remove"}
	if has(rules, func(r rule) bool { return r.add }) {
		actions = actions[:4]
	}
	if has(rules, func(r rule) bool { return r.numbers }) {
		actions = actions[:1]
	}
	for _, r := range rules {
		c.rules = append(c.rules, r.line)
	}
	for range 2 + g.IntN(3*len(c.devices)) {
		c.steps = append(c.steps, step{g.IntN(len(c.devices)), pick(g, actions...)})
	}
	return c
}

// side is one of the two device managers that are compared.
type side struct {
	*kerneltest.Jail
	program string
	run     string // its /run, as seen from outside
	output  *os.File
	crashed bool
}

// rig is the two of them, with the devices and the config that they share.
type rig struct {
	*testing.T
	tree     *kerneltest.Tree
	etc      string
	null     *os.File
	inject   *kerneltest.Injector
	busybox  *side
	devspool *side
	seqnum   uint64
	trial    trial // that is being played
}

// passwd and group hold the names that generated rules use.
const (
	passwd = "root:x:0:0::/:/bin/sh\ndaemon:x:1:1::/:/bin/sh\nlp:x:7:77::/:/bin/sh\n"
	group  = "root:x:0:\ndaemon:x:1:\ndisk:x:6:\nlp:x:77:\n"
)

func newRig(t *testing.T) *rig {
	t.Helper()
	busybox := kerneltest.Need(t, "busybox")
	if busybox, err := filepath.EvalSymlinks(busybox); err == nil {
		t.Logf("compared with %s", strings.SplitN(kerneltest.Sh(t, busybox+" 2>&1"), "\n", 2)[0])
	}
	dir := t.TempDir()
	kerneltest.MountTmpfs(t, dir)
	r := &rig{T: t, etc: filepath.Join(dir, "etc")}
	var err error
	if r.tree, err = kerneltest.NewTree(filepath.Join(dir, "sys")); err != nil {
		t.Fatal(err)
	}
	if r.null, err = os.OpenFile("/dev/null", os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	if r.inject, err = kerneltest.NewInjector(); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(r.etc, 0o755); err != nil {
		t.Fatal(err)
	}
	r.put("passwd", passwd)
	r.put("group", group)
	r.busybox = r.side(dir, "busybox", busybox)
	r.devspool = r.side(dir, "devspool", kerneltest.Build(t))
	return r
}

func (r *rig) put(name, content string) {
	r.Helper()
	if err := os.WriteFile(filepath.Join(r.etc, name), []byte(content), 0o644); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) side(dir, name, program string) *side {
	r.Helper()
	run := filepath.Join(dir, "run-"+name)
	if err := os.Mkdir(run, 0o755); err != nil {
		r.Fatal(err)
	}
	output, err := os.OpenFile(filepath.Join(dir, "output-"+name), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		r.Fatal(err)
	}
	jail := kerneltest.NewJail(r.T, map[string]string{"/sys": r.tree.Dir, "/etc": r.etc, "/run": run})
	return &side{Jail: jail, program: program, run: run, output: output}
}

func (r *rig) sides() []*side { return []*side{r.busybox, r.devspool} }

// clear gives both sides an empty /dev, and the tree no devices.
func (r *rig) clear() {
	r.Helper()
	for _, d := range slices.Backward(r.tree.Devices()) {
		if _, err := r.tree.Remove(d.Devpath); err != nil {
			r.Fatal(err)
		}
	}
	for _, s := range r.sides() {
		for _, dir := range []string{s.Dev, s.run} {
			entries, err := os.ReadDir(dir)
			if err != nil {
				r.Fatal(err)
			}
			for _, e := range entries {
				if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
					r.Fatal(err)
				}
			}
		}
		_ = s.output.Truncate(0)
		s.crashed = false
	}
}

// command returns the side's mdev.
func (r *rig) command(s *side, args ...string) *exec.Cmd {
	return &exec.Cmd{
		Path: s.program, Args: append([]string{"mdev"}, args...), Dir: "/",
		Env: []string{"PATH=/sbin:/bin:/usr/sbin:/usr/bin"}, Stdin: r.null, Stdout: s.output, Stderr: s.output,
	}
}

// perform runs a side's mdev to its end.
func (r *rig) perform(s *side, cmd *exec.Cmd) {
	r.Helper()
	if err := s.Start(cmd); err != nil {
		r.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	if !late.Stop() {
		r.Errorf("%s does not end", s.program)
	}
	// An exit code above zero is no matter: the two need not agree in it.
	if cmd.ProcessState.ExitCode() < 0 {
		s.crashed = true
	}
}

// befall lets a step happen to the device, and returns its event.
func (r *rig) befall(c trial, st step) (e kerneltest.Event, ok bool) {
	r.Helper()
	d := c.devices[st.device]
	_, err := os.Stat(filepath.Join(r.tree.Dir, d.Devpath))
	there := err == nil
	switch {
	case st.action == "add" && !there:
		e, err = r.tree.Add(d)
	case st.action == "remove" && there:
		e, err = r.tree.Remove(d.Devpath)
	case there:
		e, err = d.Event(st.action), nil
	default:
		return e, false
	}
	if err != nil {
		r.Fatal(err)
	}
	return e, true
}

// state returns what a side made and which commands it ran, made comparable.
func (r *rig) state(s *side) []string {
	r.Helper()
	lines, err := kerneltest.Snapshot(s.Dev)
	if err != nil {
		r.Fatal(err)
	}
	lines = normalize(lines)
	log, err := os.ReadFile(filepath.Join(s.run, "log"))
	if err != nil && !os.IsNotExist(err) {
		r.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(log)) {
		if !r.foreign(line) {
			line = strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "!", "/")
			lines = append(lines, fmt.Sprintf("command %03d: %s", n, line))
			n++
		}
	}
	slices.Sort(lines)
	return lines
}

// foreign reports whether a line of a log is not of the case: an answer to sync, or
// of an event of the machine's own, which reach every network namespace.
func (r *rig) foreign(line string) bool {
	_, rest, named := strings.Cut(line, "|/devices/")
	if !named {
		return strings.HasPrefix(line, "sync")
	}
	devpath, _, _ := strings.Cut(rest, "|")
	return !slices.ContainsFunc(r.trial.devices, func(d kerneltest.Device) bool { return d.Devpath == "/devices/"+devpath })
}

// normalize takes out of a snapshot what the mends allow to differ.
func normalize(lines []string) []string {
	var out []string
	for _, line := range lines {
		name, rest, _ := strings.Cut(line, " ")
		name = strings.ReplaceAll(name, "!", "/")
		nested := strings.Contains(name, "/")
		if strings.HasPrefix(rest, "dir ") || nested && strings.HasPrefix(rest, "link ") {
			continue
		}
		out = append(out, name+" "+withoutSetID(strings.ReplaceAll(rest, "!", "/")))
	}
	return out
}

// withoutSetID takes the set-id bits out of a node's mode.
func withoutSetID(line string) string {
	words := strings.Split(line, " ")
	if len(words) < 2 {
		return line
	}
	if mode, err := strconv.ParseUint(words[1], 8, 32); err == nil {
		words[1] = fmt.Sprintf("%04o", mode&^0o6000)
	}
	return strings.Join(words, " ")
}

// compare plays a case for both and returns how they differ, or "".
type compare func(r *rig, c trial) string

// compareHelpers tells both of each event by a helper.
func compareHelpers(r *rig, c trial) string {
	r.begin(c)
	for n, st := range c.steps {
		e, ok := r.befall(c, st)
		if !ok {
			continue
		}
		r.seqnum++
		for _, s := range r.sides() {
			cmd := r.command(s)
			cmd.Env = e.Environ(r.seqnum)
			r.perform(s, cmd)
		}
		if diff := r.differ(); diff != "" {
			return fmt.Sprintf("after step %d:\n%s", n+1, diff)
		}
	}
	return ""
}

// compareScans lets both scan the devices, twice.
func compareScans(r *rig, c trial) string {
	r.begin(c)
	for _, d := range c.devices {
		if _, err := r.tree.Add(d); err != nil {
			r.Fatal(err)
		}
	}
	for range 2 {
		for _, s := range r.sides() {
			r.perform(s, r.command(s, "-s"))
			r.sortLog(s)
		}
		if diff := r.differ(); diff != "" {
			return diff
		}
	}
	return ""
}

// sortLog brings a log into an order that does not depend on a directory's.
func (r *rig) sortLog(s *side) {
	name := filepath.Join(s.run, "log")
	text, err := os.ReadFile(name)
	if err != nil {
		return
	}
	lines := slices.Sorted(strings.Lines(string(text)))
	if err := os.WriteFile(name, []byte(strings.Join(lines, "")), 0o644); err != nil {
		r.Fatal(err)
	}
}

// compareLoops injects the events for two loops that listen at the same time.
func compareLoops(r *rig, c trial) string {
	c.rules = append([]string{`$SYNC=.* 0:0 660 *echo sync$SYNC >>/run/log`}, c.rules...)
	r.begin(c)
	ready, told, err := os.Pipe()
	if err != nil {
		r.Fatal(err)
	}
	defer ready.Close()
	for _, s := range r.sides() {
		cmd := r.command(s, "-df")
		if s == r.devspool {
			cmd.Args = append(cmd.Args, "-D", "3")
			cmd.ExtraFiles = []*os.File{told}
		}
		if err := s.Start(cmd); err != nil {
			r.Fatal(err)
		}
		defer func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}()
	}
	// Its coldplug goes on beside the events, and would meet the devices of the first.
	told.Close()
	_ = ready.SetReadDeadline(time.Now().Add(patience))
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		return "no loop: " + r.devspool.program + ": " + err.Error()
	}
	if !r.sync(r.busybox) {
		return "no loop: " + r.busybox.program
	}
	for n, st := range c.steps {
		e, ok := r.befall(c, st)
		if !ok {
			continue
		}
		if err := r.inject.Inject(e); err != nil {
			kerneltest.Cannot(r, "%v", err)
		}
		if !r.sync(r.busybox) {
			r.busybox.crashed = true
			return ""
		}
		var diff string
		if !kerneltest.Eventually(3*time.Second, func() bool { diff = r.differ(); return diff == "" }) {
			return fmt.Sprintf("after step %d:\n%s", n+1, diff)
		}
	}
	return ""
}

// sync returns when a loop has done all that was sent so far. BusyBox does its
// events one after the other, so the answer to one more will tell. It is asked
// again and again, since a loop may not be listening yet.
func (r *rig) sync(s *side) bool {
	r.seqnum++
	mark := strconv.FormatUint(r.seqnum, 10)
	for range 500 {
		_ = r.inject.Send("change", "/devices/virtual/sync", "SYNC="+mark)
		seen := kerneltest.Eventually(20*time.Millisecond, func() bool {
			text, _ := os.ReadFile(filepath.Join(s.run, "log"))
			return strings.Contains(string(text), "sync"+mark+"\n")
		})
		if seen {
			return true
		}
	}
	return false
}

// begin empties the stage and puts up the case's config.
func (r *rig) begin(c trial) {
	r.Helper()
	r.clear()
	r.trial = c
	r.put("mdev.conf", c.conf())
}

// differ returns how the two sides differ by now.
func (r *rig) differ() string {
	if r.busybox.crashed {
		return ""
	}
	diff := kerneltest.Diff(r.state(r.busybox), r.state(r.devspool))
	if r.devspool.crashed {
		diff += "devspool ended by a signal\n"
	}
	return diff
}

// cases returns how many cases to play where the time allows n.
func cases(t *testing.T, n int) int {
	t.Helper()
	said := os.Getenv("DEVSPOOL_CASES")
	if said == "" {
		return n
	}
	n, err := strconv.Atoi(said)
	if err != nil {
		t.Fatalf("DEVSPOOL_CASES: %v", err)
	}
	return n
}

// likeBusyBox plays random cases and shows the first that differs, shrunk.
func likeBusyBox(t *testing.T, n int, coldplug bool, play compare) {
	r := newRig(t)
	from := seed(t)
	crashes := 0
	for i := range cases(t, n) {
		s := from + uint64(i)
		c := newTrial(newRand(s), coldplug)
		diff := play(r, c)
		if r.busybox.crashed {
			crashes++
			continue
		}
		if diff != "" {
			c, diff = shrink(r, c, diff, play)
			t.Errorf("DEVSPOOL_SEED=%d DEVSPOOL_CASES=1\n%s", s, report(r, c, diff))
			if os.Getenv("DEVSPOOL_GO_ON") == "" {
				break
			}
		}
	}
	t.Logf("%d cases ended BusyBox by a signal", crashes)
}

// shrink leaves out rules and steps as long as the two still differ.
func shrink(r *rig, c trial, diff string, play compare) (trial, string) {
	for again := true; again; {
		again = false
		for _, smaller := range c.parts() {
			if d := play(r, smaller); d != "" && !r.busybox.crashed {
				c, diff, again = smaller, d, true
				break
			}
		}
	}
	if d := play(r, c); d != "" {
		diff = d
	}
	return c, diff
}

// parts returns the case with each rule or step left out in turn.
func (c trial) parts() []trial {
	var all []trial
	for i := range c.steps {
		p := c
		p.steps = slices.Delete(slices.Clone(c.steps), i, i+1)
		all = append(all, p)
	}
	for i := range c.rules {
		if c.rules[i] == forAll {
			continue // without it a mend would show
		}
		p := c
		p.rules = slices.Delete(slices.Clone(c.rules), i, i+1)
		all = append(all, p)
	}
	return all
}

// report shows a case that can be played by hand.
func report(r *rig, c trial, diff string) string {
	var b strings.Builder
	b.WriteString("mdev.conf:\n" + indent(c.conf()) + "events:\n")
	for _, st := range c.steps {
		b.WriteString(indent(c.devices[st.device].Event(st.action).String()))
	}
	b.WriteString("difference (-BusyBox +devspool):\n" + indent(diff))
	for _, s := range r.sides() {
		text, _ := os.ReadFile(s.output.Name())
		fmt.Fprintf(&b, "%s:\n%soutput:\n%s", filepath.Base(s.run), indent(strings.Join(r.state(s), "\n")), indent(string(text)))
	}
	b.WriteString("differences on purpose, which are not compared:\n")
	for _, m := range mends {
		b.WriteString("\tBusyBox: " + m.what + "\n\t\there: " + m.here + "\n")
	}
	return b.String()
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("\t" + strings.TrimSuffix(line, "\n") + "\n")
	}
	return b.String()
}

func TestHelperLikeBusyBox(t *testing.T) {
	t.Parallel()
	if jailed(t) {
		likeBusyBox(t, 300, false, compareHelpers)
	}
}

func TestScanLikeBusyBox(t *testing.T) {
	t.Parallel()
	if jailed(t) {
		likeBusyBox(t, 300, true, compareScans)
	}
}

func TestLoopLikeBusyBox(t *testing.T) {
	t.Parallel()
	if jailed(t) {
		likeBusyBox(t, 60, false, compareLoops)
	}
}
