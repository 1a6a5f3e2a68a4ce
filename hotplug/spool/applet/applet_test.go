package applet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/spool"
	"devspool/hotplug/uevent"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m)) }

// outcome is how a tool ended, and what it wrote.
type outcome struct {
	code     int
	out, err string
}

func run(tool func([]string, Streams) int, input string, args ...string) outcome {
	var out, err bytes.Buffer
	code := tool(args, Streams{In: strings.NewReader(input), Out: &out, Err: &err})
	return outcome{code, out.String(), err.String()}
}

func watchNothing(args []string, s Streams) int { return Watch(args, s, nil) }

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		tool  func([]string, Streams) int
		line  string
		code  int
		wrong string // the last line on stderr
	}{
		{watchNothing, "--subsystem", 100, "--subsystem needs a value"},
		{watchNothing, "--subsystem=", 100, "--subsystem needs a value"},
		{watchNothing, "--json=yes", 100, "--json takes no value"},
		{watchNothing, "--json --property", 100, "--json and --property exclude each other"},
		{watchNothing, "--jsn", 100, "unknown option --jsn"},
		{watchNothing, "block", 100, "block: " + spool.ErrFilter.Error()},
		{watchNothing, "--events /missing", 1, "devspool watch: error: no spool at /missing; does devspool run there?"},
		{watchNothing, "-h", 0, ""},
		{watchNothing, "--subsystem block --help", 0, ""},
		{Event, "", 100, "put, pop or ls?"},
		{Event, "put x", 100, "not understood: x"},
		{Event, "push", 100, "not understood: push"},
		{Event, "put -n", 100, "-n needs a value"},
		{Event, "put -n -1", 100, "-n needs a number: -1"},
		{Event, "put -n 18446744073709551616", 100, "-n needs a number: 18446744073709551616"},
		{Event, "put", 1, "devspool event put: error: " + spool.ErrMalformed.Error()},
		{Event, "pop", 100, "which queue?"},
		{Event, "pop a b", 100, "which queue?"},
		{Event, "pop /missing", 1, "devspool event pop: error: open /missing: no such file or directory"},
		{Event, "ls x", 100, "not understood: x"},
		{Event, "ls --events /missing", 1, "devspool event ls: error: no spool at /missing; does devspool run there?"},
		{Event, "--help", 0, ""},
		{Event, "pop -h", 0, ""},
	} {
		got := run(test.tool, "", strings.Fields(test.line)...)
		lines := strings.Split(strings.TrimSuffix(got.err, "\n"), "\n")
		said := lines[0]
		if test.code == 100 { // two lines, and not the page of the usage
			_, said, _ = strings.Cut(said, ": ")
			if hint := lines[len(lines)-1]; len(lines) != 2 || !strings.HasSuffix(hint, " --help") {
				t.Errorf("%q: %q", test.line, lines)
			}
		}
		if got.code != test.code || said != test.wrong {
			t.Errorf("%q: exit %d, %q, want %d, %q", test.line, got.code, said, test.code, test.wrong)
		}
		if shown := strings.Contains(got.out, "usage:"); shown != (test.code == 0) {
			t.Errorf("%q: usage on stdout: %v", test.line, shown)
		}
	}
}

// TestManPage shows that docs/devspool-events.5 has each option of the tools.
func TestManPage(t *testing.T) {
	text, err := os.ReadFile("../../../docs/devspool-events.5")
	must(t, err)
	page := strings.ReplaceAll(string(text), `\-`, "-")
	var o eventOptions
	for _, option := range slices.Concat(new(watch).options(), o.put(), o.pop(), o.ls()) {
		letter, long, _ := option.Split()
		name := "--" + long
		if long == "" {
			name = "-" + string(rune(letter))
		}
		if !regexp.MustCompile(`(?m)(^\.BI? |\\fB)` + name + `\b`).MatchString(page) {
			t.Errorf("the page has no %s", name)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// queue makes a queue as a shell does, whose owner this process is.
func queue(t *testing.T, root, name string) string {
	t.Helper()
	path := filepath.Join(root, name+"-"+strconv.Itoa(os.Getpid()))
	must(t, os.Mkdir(path, 0o700))
	t.Cleanup(func() { os.RemoveAll(path) })
	return path
}

const loop0 = "change@/devices/virtual/block/loop0\nACTION=change\nDEVPATH=/devices/virtual/block/loop0\nSUBSYSTEM=block\n"

func TestEvent(t *testing.T) {
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	expect := func(got, want outcome) {
		t.Helper()
		if got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	put := func(input string, args ...string) {
		t.Helper()
		expect(run(Event, input, append([]string{"put"}, args...)...), outcome{})
	}
	if got := run(Event, loop0, "put"); got.code != 1 || !strings.Contains(got.err, "no spool at /dev/events") {
		t.Errorf("no devspool: %+v", got)
	}
	if _, err := os.Lstat("/dev/.devspool"); err == nil {
		t.Error("a spool was made")
	}
	must(t, os.Mkdir("/dev/events", 0o777))
	put(loop0) // for nobody

	a, b := queue(t, "/dev/events", "a"), queue(t, "/dev/events", "b")
	expect(run(Event, "", "pop", a), outcome{code: 1})
	put(loop0)                                                                              // a coldplug's: without SEQNUM
	put(loop0+"SEQNUM=1\n", "-n", "18446744073709551615")                                   // another number
	put("add@/devices/x\x00ACTION=add\x00DEVPATH=/devices/x\x00NAME=\"a\nb\"\x00", "-s", a) // the kernel's form
	for _, want := range []string{loop0, loop0 + "SEQNUM=18446744073709551615\n"} {
		expect(run(Event, "", "pop", a), outcome{out: want})
		expect(run(Event, "", "pop", b), outcome{out: want})
	}
	expect(run(Event, "", "pop", a), outcome{code: 1})
	list := run(Event, "", "ls")
	pid, uid := strconv.Itoa(os.Getpid()), strconv.Itoa(os.Getuid())
	want := [][]string{{"UID", "OWNER", "UNREAD", "QUEUE"}, {uid, pid, "0", "a-" + pid}, {uid, pid, "1", "b-" + pid}}
	for i, line := range strings.Split(strings.TrimSuffix(list.out, "\n"), "\n") {
		if i >= len(want) || !slices.Equal(strings.Fields(line), want[i]) {
			t.Errorf("ls: %q", line)
		}
	}
	expect(run(Event, "", "pop", b), outcome{out: "add@/devices/x\nACTION=add\nDEVPATH=/devices/x\nNAME=\"a\\x0ab\"\n"})

	// Nothing could be delivered: that is said.
	if got := run(Event, loop0, "put", "--dev", "/proc"); got.code != 1 || got.err == "" {
		t.Errorf("no place for a spool: %+v", got)
	}
	if got := run(Event, loop0, "put", "-s", "/proc"); got.code != 1 || got.err == "" {
		t.Errorf("a source elsewhere: %+v", got)
	}
}

func TestPopWaits(t *testing.T) {
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	must(t, os.Mkdir("/dev/events", 0o777))
	a := queue(t, "/dev/events", "a")
	done := make(chan outcome)
	go func() { done <- run(Event, "", "pop", "-w", a) }()
	run(Event, loop0, "put")
	select {
	case got := <-done:
		if (got != outcome{out: loop0}) {
			t.Errorf("%+v", got)
		}
	case <-time.After(patience):
		t.Error("pop -w does not end")
	}
}

// TestLsOwners is about who is named as a queue's owner.
func TestLsOwners(t *testing.T) {
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	must(t, os.Mkdir("/dev/events", 0o777))
	r, err := spool.Subscribe(t.Context(), spool.Subscription{Name: "locked"})
	must(t, err)
	defer r.Close()
	for _, name := range []string{"dead-2000000000", "kept-2000000000", "shell-" + strconv.Itoa(os.Getpid()) + "-3", "esc\x1b-2000000000", ".hidden-1"} {
		must(t, os.Mkdir("/dev/events/"+name, 0o700))
	}
	must(t, os.WriteFile("/dev/events/kept-2000000000/.sticky", nil, 0o600))
	owners := map[string]string{}
	for _, line := range strings.Split(run(Event, "", "ls").out, "\n") {
		if f := strings.Fields(line); len(f) == 4 {
			name, _, _ := strings.Cut(f[3], "-")
			owners[name] = f[1]
		}
	}
	pid := strconv.Itoa(os.Getpid())
	want := map[string]string{"QUEUE": "OWNER", "locked": pid, "dead": "-", "kept": "sticky", "shell": pid, `esc\x1b`: "-"}
	if fmt.Sprint(owners) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", owners, want)
	}
}

// watching runs devspool watch until stop is called.
type watching struct {
	*testing.T
	lines chan string
	ended chan error
	stop  func()
}

func startWatch(t *testing.T, replay Replay, args ...string) *watching {
	t.Helper()
	out, in := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	w := watch{Streams: Streams{Out: in}, clock: func() string { return "12.000345" }}
	must(t, w.parse(args))
	run := &watching{T: t, lines: make(chan string), ended: make(chan error, 1), stop: cancel}
	go func() {
		run.ended <- w.run(ctx, replay)
		in.Close()
	}()
	go func() {
		buf := make([]byte, 64<<10) // one write of the tool is one read of ours
		for {
			n, err := out.Read(buf)
			if err != nil {
				close(run.lines)
				return
			}
			run.lines <- string(buf[:n])
		}
	}()
	kerneltest.Until(t, patience, "the watcher's queue", func() bool {
		queues, _ := filepath.Glob("/dev/events/watch-*")
		return len(queues) > 0
	})
	return run
}

func (w *watching) expect(want string) {
	w.Helper()
	select {
	case got := <-w.lines:
		if got != want {
			w.Errorf("%q, want %q", got, want)
		}
	case <-time.After(patience):
		w.Fatalf("no %q", want)
	}
}

func (w *watching) end() {
	w.Helper()
	w.stop()
	if err := <-w.ended; err != context.Canceled {
		w.Error(err)
	}
	if line, more := <-w.lines; more {
		w.Errorf("%q is too much", line)
	}
	if queues, _ := filepath.Glob("/dev/events/*"); len(queues) > 0 {
		w.Errorf("left behind: %v", queues)
	}
}

func TestWatch(t *testing.T) {
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	must(t, os.Mkdir("/dev/events", 0o777))
	put := func(texts ...string) {
		t.Helper()
		for _, text := range texts {
			if got := run(Event, text, "put"); got.code != 0 {
				t.Fatalf("%+v", got)
			}
		}
	}
	const (
		eth   = "add@/devices/virtual/net/e\nACTION=add\nDEVPATH=/devices/virtual/net/e\nSUBSYSTEM=net\n"
		odd   = "add@/devices/x\nACTION=add\nDEVPATH=/devices/x\nNAME=\"\\x1b[2J\\\"\n"
		lost  = "change@/\nACTION=change\nDEVPATH=/\nUEVENT_GAP=1\nLOST=3\nREASON=slow\n"
		loopN = "     12.000345  change   /devices/virtual/block/loop0 (block)\n"
	)
	w := startWatch(t, nil)
	put(loop0, eth, odd, lost)
	w.expect(loopN)
	w.expect("     12.000345  add      /devices/virtual/net/e (net)\n")
	w.expect("     12.000345  add      /devices/x\n")
	w.expect("     12.000345  gap      events were lost: 3 (slow)\n")
	w.end()

	w = startWatch(t, nil, "--property", "--subsystem=net", "subsystem=x")
	put(loop0, eth, odd)
	w.expect("     12.000345  add      /devices/virtual/net/e (net)\n" + eth + "\n")
	w.end()

	w = startWatch(t, nil, "--json", "ACTION=add")
	put(loop0, eth, odd)
	w.expect(`{"ACTION":"add","DEVPATH":"/devices/virtual/net/e","SUBSYSTEM":"net"}` + "\n")
	w.expect(`{"ACTION":"add","DEVPATH":"/devices/x","NAME":"\"\u001b[2J\\\""}` + "\n")
	w.end()

	events := func() ([]*uevent.Event, error) {
		var all []*uevent.Event
		for _, subsystem := range []string{"block", "net"} {
			put(loop0) // while the replay goes on
			e, err := uevent.FromEnviron([]string{"ACTION=add", "DEVPATH=/devices/" + subsystem, "DEVNAME=" + subsystem, "SUBSYSTEM=" + subsystem})
			must(t, err)
			all = append(all, e)
		}
		return all, nil
	}
	w = startWatch(t, events, "--replay", "--subsystem", "block", "--json")
	w.expect(`{"ACTION":"add","DEVPATH":"/devices/block","SUBSYSTEM":"block","DEVNAME":"/dev/block"}` + "\n")
	for range 2 {
		w.expect(`{"ACTION":"change","DEVPATH":"/devices/virtual/block/loop0","SUBSYSTEM":"block"}` + "\n")
	}
	w.end()
}

func TestWatchFails(t *testing.T) {
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	must(t, os.Mkdir("/dev/events", 0o777))
	broken := errors.New("no sysfs")
	w := watch{Streams: Streams{Out: io.Discard}, replay: true}
	if err := w.run(t.Context(), func() ([]*uevent.Event, error) { return nil, broken }); err != broken {
		t.Errorf("a replay that fails: %v", err)
	}
	out, in := io.Pipe()
	out.Close()
	w = watch{Streams: Streams{Out: in}, replay: true, clock: uptime}
	e, err := uevent.FromEnviron([]string{"ACTION=add", "DEVPATH=/x"})
	must(t, err)
	if err := w.run(t.Context(), func() ([]*uevent.Event, error) { return []*uevent.Event{e}, nil }); err != io.ErrClosedPipe {
		t.Errorf("nobody reads: %v", err)
	}
	if queues, _ := filepath.Glob("/dev/events/*"); len(queues) > 0 {
		t.Errorf("left behind: %v", queues)
	}
}

func TestUptime(t *testing.T) {
	var before unix.Timespec
	must(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &before))
	text := uptime()
	if !regexp.MustCompile(`^\d+\.\d{6}$`).MatchString(text) {
		t.Error(text)
	}
	if seconds, err := strconv.ParseFloat(text, 64); err != nil || seconds < float64(before.Nano()/1000)/1e6 {
		t.Errorf("%s is earlier than %d ns", text, before.Nano())
	}
}

// TestJSON shows an event's variables: one that it has several times is an array.
func TestJSON(t *testing.T) {
	for _, c := range []struct {
		env  []string
		want string
	}{
		{nil, `{}`},
		{[]string{"A=1", "B=x=\"y\""}, `{"A":"1","B":"x=\"y\""}`},
		{[]string{"A=1", "B=2", "A=", "A=1"}, `{"B":"2","A":["1","","1"]}`},
		{[]string{"SEQNUM=1", "B=2", "SEQNUM=3"}, `{"B":"2","SEQNUM":"3"}`},
		{[]string{"A=1", "AB=2", "AB=3"}, `{"A":"1","AB":["2","3"]}`},
	} {
		if got := string(appendJSON(nil, spool.Packet{Env: c.env})); got != c.want+"\n" {
			t.Errorf("%q: %s, want %s", c.env, got, c.want)
		}
	}
}

func FuzzJSON(f *testing.F) {
	f.Add("NAME", "a\"\\\n\x1b\x7f€\xff\u2028", "ID", "")
	f.Add("TYPE", "1", "TYPE", "2")
	f.Add("TAGS", ":a:", "TAGS", ":b:")
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 string) {
		p := spool.Packet{Env: []string{key1 + "=" + value1, key2 + "=" + value2}}
		text := appendJSON(nil, p)
		var got map[string]any
		if err := json.Unmarshal(text, &got); err != nil || bytes.Count(text, []byte("\n")) != 1 {
			t.Fatalf("%q: %v", text, err)
		}
		if slices.ContainsFunc(p.Env, func(kv string) bool { return !utf8.ValidString(kv) }) {
			return
		}
		for _, kv := range p.Env {
			key, _, _ := strings.Cut(kv, "=")
			values := p.Values(key)
			want := fmt.Sprint(values)
			if len(values) == 1 {
				want = values[0]
			}
			if fmt.Sprint(got[key]) != want {
				t.Errorf("%q: %q is %q, was %q", text, key, got[key], values)
			}
		}
	})
}
