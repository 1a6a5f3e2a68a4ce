package systemtest

import (
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
)

// netBoard makes a board whose /sys is that of the test's network namespace, with a witness
// of each event of an interface.
func netBoard(t *testing.T, rules string) (b *board, seen func(action, name string) []testimony) {
	t.Helper()
	kerneltest.Need(t, "ip")
	b = namedBoard(t, "")
	words, file := b.witness("seen")
	b.configure(strings.ReplaceAll(rules, "SEE", "*"+words))
	if r := b.run("--check"); strings.Contains(r.stdout, "there is no directive") {
		kerneltest.Cannot(t, "this program has no directive name=")
	}
	return b, func(action, name string) (found []testimony) {
		for _, y := range b.testimonies(file) {
			if y.get("ACTION") == action && y.get("INTERFACE") == name && y.get("SUBSYSTEM") == "net" {
				found = append(found, y)
			}
		}
		return found
	}
}

// address returns the MAC address of an interface, or "".
func address(name string) string {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return ""
	}
	return link.HardwareAddr.String()
}

// isCalled fails unless the interface of that MAC address has a name, or soon does.
func (b *board) isCalled(mac, name string) {
	b.Helper()
	kerneltest.Until(b, patience, mac+" as "+name, func() bool { return address(name) == mac })
}

const (
	macA = "02:00:00:00:0a:01"
	macB = "02:00:00:00:0b:02"
)

// byIndex are rules for two interfaces, by the indexes that addPair gives them.
func byIndex(a, b string) string {
	return "IFINDEX=^101$;name=" + a + ";SUBSYSTEM=net;.* 0:0 600 SEE\n" +
		"IFINDEX=^102$;name=" + b + ";SUBSYSTEM=net;.* 0:0 600 SEE\n"
}

// addPair makes two interfaces.
func addPair(t *testing.T, a, b string) {
	t.Helper()
	kerneltest.Sh(t, "ip link add "+a+" index 101 address "+macA+" type veth peer name "+b+" index 102 address "+macB)
}

// TestRenameInterface shows what commands see of an interface that is renamed, and what
// they do not see twice.
func TestRenameInterface(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b, seen := netBoard(t, byIndex("lan0", "wan0"))
	l := b.startLoop()
	addPair(t, "va", "vb")
	b.isCalled(macA, "lan0")
	b.isCalled(macB, "wan0")
	b.ask("settle", "20")
	for old, name := range map[string]string{"va": "lan0", "vb": "wan0"} {
		adds := seen("add", name)
		if len(adds) != 1 || len(seen("add", old)) != 0 {
			t.Fatalf("%s: %d adds, and %d of its old name\n%s", name, len(adds), len(seen("add", old)), l.stderr)
		}
		y := adds[0]
		for key, want := range map[string]string{"INTERFACE_OLD": old, "DEVPATH": "/devices/virtual/net/" + name, "MDEV": name} {
			if got := y.get(key); got != want {
				t.Errorf("%s: %s=%q, want %q", name, key, got, want)
			}
		}
		if moves := seen("move", name); len(moves) != 1 || moves[0].get("DEVPATH_OLD") != "/devices/virtual/net/"+old {
			t.Errorf("%s: moves %v", name, moves)
		}
	}
	// A further scan, and a coldplug, find nothing to be renamed.
	b.scan()
	b.ask("coldplug")
	if n := len(seen("move", "lan0")); n != 1 || address("lan0") != macA {
		t.Errorf("%d moves, lan0 is %s", n, address("lan0"))
	}
	if text := l.stderr.String(); strings.Contains(text, "renamed") || strings.Contains(text, "error") {
		t.Errorf("the loop says:\n%s", text)
	}
}

// TestRenameSwap has two interfaces swap their names, in each of the ways to run.
func TestRenameSwap(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	kerneltest.Need(t, "ip")
	for _, scan := range []bool{true, false} {
		b, seen := netBoard(t, byIndex("eth1", "eth0"))
		addPair(t, "eth0", "eth1")
		kerneltest.Sh(t, "ip link set eth0 up")
		if scan {
			b.scan()
		} else {
			l := b.startLoop()
			defer l.kill()
		}
		b.isCalled(macA, "eth1")
		b.isCalled(macB, "eth0")
		if !scan {
			b.ask("settle", "20")
		}
		for _, name := range []string{"eth0", "eth1"} {
			if adds := seen("add", name); len(adds) != 1 {
				t.Errorf("scan %v: %d adds of %s", scan, len(adds), name)
			}
		}
		kerneltest.Sh(t, "ip link del eth0")
	}
}

// TestRenameClash shows an interface that cannot have its name, since another one keeps that.
func TestRenameClash(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b, seen := netBoard(t, byIndex("taken0", "wan0"))
	l := b.startLoop()
	kerneltest.Sh(t, "ip link add taken0 type veth peer name taken1")
	addPair(t, "va", "vb")
	b.isCalled(macB, "wan0") // which does not wait for the other
	kerneltest.Until(t, patience, "the warning", func() bool { return strings.Contains(l.stderr.String(), "not renamed") })
	b.isCalled(macA, "va")
	kerneltest.Until(t, patience, "its add", func() bool { return len(seen("add", "va")) == 1 })
	// It may leave while it waits.
	if err := exec.Command("ip", "link", "del", "va").Run(); err != nil {
		t.Error(err)
	}
	addPair(t, "va", "vb")
	time.Sleep(200 * time.Millisecond)
	kerneltest.Sh(t, "ip link del vb 2>/dev/null || ip link del wan0")
	b.ask("settle", "20")
}
