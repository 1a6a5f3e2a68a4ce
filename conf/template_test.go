package conf

import (
	"strings"
	"testing"

	"devspool/nodes"
)

func TestEscaped(t *testing.T) {
	long := strings.Repeat("ü", 200)
	for value, want := range map[string]string{
		"":                                   "",
		" \t\n":                              "",
		"  a  b\t\nc ":                       "a_b_c",
		"a/b":                                "a_b",
		"../x":                               ".._x",
		"#+-.:=@_":                           "#+-.:=@_",
		"$(reboot);`x`'\"&|<>*?":             "__reboot___x_________",
		"é\u2603":                            "é\u2603",
		"a\xffb\xc3":                         "a_b_",
		"\x1b[31m\x00\x7f":                   "__31m__",
		`my\x20disk\x2f1\n\`:                 `my\x20disk\x2f1_n_`,
		strings.Repeat("a", 300):             strings.Repeat("a", maxValue),
		strings.Repeat("a", maxValue) + " b": strings.Repeat("a", maxValue),
		long:                                 long[:maxValue-1],
	} {
		if got := string(appendEscaped([]byte("x/"), value)); got != "x/"+want {
			t.Errorf("%q is %q, want %q", value, got, want)
		}
	}
}

func TestInterfaceNames(t *testing.T) {
	for name, want := range map[string]bool{
		"": false, "a": true, "lan0": true, "fifteen-bytes-x": true, "sixteen-bytes-xx": false, ".": false, "..": false, "...": true,
		"a/b": false, "a:b": false, "a b": false, "a\tb": false, "eth%d": false, "é": true, "a\x00": false, "a.1@b": true,
	} {
		if isInterface(name) != want {
			t.Errorf("%q: %t", name, !want)
		}
	}
}

// TestLinkLength has a device say more than a path may have.
func TestLinkLength(t *testing.T) {
	c := Parse("f", "link="+strings.Repeat("$X/", 40)+"x;link=a$X$X;.* 0:0 660", IDs{})
	p := c.Plan(event(t, sda+" X="+strings.Repeat("y", 4096)))
	for _, l := range p.Links {
		if !nodes.CleanPath(l.Path) {
			t.Errorf("%.40s...", l.Path)
		}
	}
	if len(p.Faults) != 2 || len(p.Nodes) != 1 {
		t.Errorf("%.400s", p)
	}
}

// TestUnnumbered has a coldplug offer interfaces to rules that name them.
func TestUnnumbered(t *testing.T) {
	c := Parse("f", "name=lan0;eth0 0:0 660", IDs{})
	if !c.WantsUnnumbered("eth0") || c.WantsUnnumbered("lo") {
		t.Error("the scan leaves out the interface, or brings another one")
	}
	if p := c.PlanScan(event(t, "ACTION=add DEVPATH=/devices/x/net/eth0 SUBSYSTEM=net")); p.Rename == nil || p.Rename.Name != "lan0" {
		t.Errorf("%s", p)
	}
	c = Parse("f", "if_attr=address:1;e.* 0:0 660 @x", IDs{})
	if !c.WantsUnnumbered("eth0") {
		t.Error("a rule that asks for an attribute is not for devices without numbers")
	}
}
