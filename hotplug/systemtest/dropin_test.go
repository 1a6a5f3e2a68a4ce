package systemtest

import (
	"strings"
	"syscall"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
)

// TestConfIsNoFile gives what is no regular file, or too much, as config: it is
// refused at once with a reason, whatever is asked for.
func TestConfIsNoFile(t *testing.T) {
	b := newSandbox(t, "")
	fifo, dir := t.TempDir()+"/fifo", t.TempDir()
	hotplugtest.Must(t, syscall.Mkfifo(fifo, 0o600))
	long, many := t.TempDir()+"/long", t.TempDir()+"/many"
	b.write(long, strings.Repeat("# x\n", 300_000))
	b.write(many, strings.Repeat("a 0 0\n", 20_000))
	for conf, why := range map[string]string{fifo: "not a regular file", dir: "not a regular file",
		"/dev/zero": "not a regular file", long: "longer than 1 MiB", many: "more than 10000 rules"} {
		for _, mode := range []string{"--check", "--plan", "-sn"} {
			o := b.do(nil, mode, "--conf", conf)
			if o.code != exitConfig || !strings.Contains(o.stderr, why) {
				t.Errorf("%s with %s: %d %q", mode, conf, o.code, o.stderr)
			}
		}
	}
}

// TestGarbage counts the lines that a config of garbage gives: some for a scan, none
// for an event.
func TestGarbage(t *testing.T) {
	b := newSandbox(t, strings.Repeat("nonsense\n", 5000))
	if o := b.do(nil, "-sn"); strings.Count(o.stderr, "a rule has") != 10 || !strings.Contains(o.stderr, "4990 more") {
		t.Errorf("-s: %q", o.stderr)
	}
	if o := b.do([]string{"ACTION=change", "DEVPATH=/devices/x"}, "-n"); o.stderr != "" {
		t.Errorf("helper: %q", o.stderr)
	}
}

// TestManyConditions refuses a config that is short enough, and would take a lot of memory.
func TestManyConditions(t *testing.T) {
	b := newSandbox(t, "")
	for _, prefix := range []string{"A=b;", "link=x;", "if_attr=a:b;"} {
		b.write(b.conf, strings.Repeat(prefix, 25_000)+"sda 0:0 660\n"+strings.Repeat(prefix, 25_000)+"sda 0:0 660\n")
		if o := b.do(nil, "-sn"); o.code != exitDone {
			t.Errorf("%s: %+v", prefix, o)
		}
		b.write(b.conf, "# one more\n"+strings.Repeat(prefix, 50_001)+"sda 0:0 660\n")
		if o := b.do(nil, "-sn"); o.code != exitConfig || !strings.Contains(o.stderr, ":2: more than 50000 conditions") {
			t.Errorf("%s: %+v", prefix, o)
		}
	}
}

// TestContinuations reads very many lines that backslashes join, which is done in
// time that grows with their length.
func TestContinuations(t *testing.T) {
	b := newSandbox(t, strings.Repeat("#\\\n", 300_000)+"\nsda 0:0 600\n")
	if o := b.do(nil, "--check"); o.code != exitDone && o.code != exitConfig {
		t.Errorf("%+v", o)
	}
}

// TestRemoveByHand removes a device that /sys still has.
func TestRemoveByHand(t *testing.T) {
	kerneltest.NeedRoot(t)
	b := newSandbox(t, "")
	environ := []string{"ACTION=add", "DEVPATH=/devices/virtual/tty/tty0"}
	if o := b.do(environ); o.code != exitDone {
		t.Fatalf("%+v", o)
	}
	if !b.has("dev/tty0") {
		t.Fatal("no node")
	}
	environ[0] = "ACTION=remove"
	if o := b.do(environ); o.code != exitDone || b.has("dev/tty0") {
		t.Errorf("the node is still there: %+v", o)
	}
}

// TestScanRulesByName scans devices without numbers: only rules with a variable care.
func TestScanRulesByName(t *testing.T) {
	kerneltest.NeedRoot(t)
	b := newSandbox(t, "eth0 0:0 600 @echo name >>out\nSUBSYSTEM=net;eth0 0:0 600 @echo net >>out\n")
	if o := b.do(nil, "-t", "-n", "-s"); o.code != exitDone || strings.Contains(o.stdout, "echo name") {
		t.Errorf("%+v", o)
	}
	if o := b.do(nil, "-s"); o.code != exitDone || !b.has("dev/out") {
		t.Errorf("the command did not run: %+v", o)
	}
}
