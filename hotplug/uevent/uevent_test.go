package uevent_test

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"devspool/hotplug/uevent"
)

// message joins the parts of a netlink message.
func message(parts ...string) []byte { return []byte(strings.Join(parts, "\x00") + "\x00") }

func TestParseMessage(t *testing.T) {
	e, err := uevent.ParseMessage(message(
		"add@/devices/pci0/block/sda/sda1", "ACTION=add", "DEVPATH=/devices/pci0/block/sda/sda1", "SUBSYSTEM=block",
		"MAJOR=8", "MINOR=1", "DEVNAME=sda1", "DEVTYPE=partition", "EMPTY=", "EQUALS=a=b=c", "SEQNUM=18446744073709551615"))
	if err != nil {
		t.Fatal(err)
	}
	want := uevent.Event{
		Action: "add", Devpath: "/devices/pci0/block/sda/sda1", Subsystem: "block", Devname: "sda1",
		Dev: uevent.Dev{Block: true, Major: 8, Minor: 1}, Seqnum: 1<<64 - 1,
	}
	got := *e
	if got.Action != want.Action || got.Devpath != want.Devpath || got.Subsystem != want.Subsystem ||
		got.Devname != want.Devname || got.Dev != want.Dev || got.Seqnum != want.Seqnum {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for key, want := range map[string]string{"DEVTYPE": "partition", "EMPTY": "", "EQUALS": "a=b=c"} {
		if got, ok := e.Get(key); !ok || got != want {
			t.Errorf("%s is %q, %v", key, got, ok)
		}
	}
	if got, ok := e.Get("DEV"); ok {
		t.Errorf("DEV is %q", got)
	}
	if e.ID() != "b8:1" || e.Sysname() != "sda1" {
		t.Errorf("ID %q, sysname %q", e.ID(), e.Sysname())
	}
}

func TestParseMessageKeepsNothing(t *testing.T) {
	msg := message("add@/devices/x", "ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=abc")
	e, err := uevent.ParseMessage(msg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range msg {
		msg[i] = '#'
	}
	if e.Subsystem != "abc" || e.Devpath != "/devices/x" {
		t.Errorf("the event changed with the buffer: %+v", e)
	}
}

func TestParseMessageRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		msg  []byte
		want error
	}{
		{"nothing", nil, uevent.ErrMalformed},
		{"no NUL", []byte("add@/devices/x"), uevent.ErrMalformed},
		{"no at", message("libudev", "ACTION=add", "DEVPATH=/devices/x"), uevent.ErrMalformed},
		{"no action", message("@/devices/x", "ACTION=add", "DEVPATH=/devices/x"), uevent.ErrMalformed},
		{"no path", message("add@", "ACTION=add", "DEVPATH=/devices/x"), uevent.ErrMalformed},
		{"no ACTION", message("add@/devices/x", "DEVPATH=/devices/x"), uevent.ErrIncomplete},
		{"at in ACTION", message("add@/devices/x", "ACTION=@", "DEVPATH=/devices/x"), uevent.ErrIncomplete},
		{"no DEVPATH", message("add@/devices/x", "ACTION=add"), uevent.ErrIncomplete},
		{"upwards", message("add@/x", "ACTION=add", "DEVPATH=/devices/../../etc"), uevent.ErrIncomplete},
		{"relative", message("add@/x", "ACTION=add", "DEVPATH=devices/x"), uevent.ErrIncomplete},
		{"root", message("add@/x", "ACTION=add", "DEVPATH=/"), uevent.ErrIncomplete},
		{"double slash", message("add@/x", "ACTION=add", "DEVPATH=/devices//x"), uevent.ErrIncomplete},
		{"slash at the end", message("add@/x", "ACTION=add", "DEVPATH=/devices/x/"), uevent.ErrIncomplete},
		{"dot", message("add@/x", "ACTION=add", "DEVPATH=/devices/./x"), uevent.ErrIncomplete},
	} {
		t.Run(c.name, func(t *testing.T) {
			if e, err := uevent.ParseMessage(c.msg); !errors.Is(err, c.want) {
				t.Errorf("got %+v, %v", e, err)
			}
		})
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		subsystem, major, minor string
		want                    string // ID
	}{
		{"block", "8", "0", "b8:0"},
		{"tty", "8", "0", "c8:0"},
		{"tty", "4095", "1048575", "c4095:1048575"},
		{"tty", "4096", "0", "+tty:x"},
		{"tty", "1", "1048576", "+tty:x"},
		{"tty", "", "", "+tty:x"},
		{"tty", "1", "", "+tty:x"},
		{"tty", "0", "0", "+tty:x"},
		{"block", "0", "39", "b0:39"},
		{"tty", "-1", "0", "+tty:x"},
		{"tty", "+1", "0", "+tty:x"},
		{"tty", " 1", "0", "+tty:x"},
		{"tty", "0x1", "0", "+tty:x"},
		{"tty", "1_0", "0", "+tty:x"},
	} {
		e, err := uevent.FromEnviron([]string{"ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=" + c.subsystem, "MAJOR=" + c.major, "MINOR=" + c.minor})
		if err != nil {
			t.Fatal(err)
		}
		if e.ID() != c.want {
			t.Errorf("%s %s:%s is %s, want %s", c.subsystem, c.major, c.minor, e.ID(), c.want)
		}
	}
}

func TestBlockOrCharacter(t *testing.T) {
	for _, c := range []struct {
		devpath, subsystem string
		want               bool
	}{
		{"/devices/x", "block", true},
		{"/devices/x/block/sda", "", true},
		{"/block/sda", "", true},
		{"/devices/x", "tty", false},
		{"/devices/blockish/x", "tty", false},
	} {
		e, err := uevent.FromEnviron([]string{"ACTION=add", "DEVPATH=" + c.devpath, "SUBSYSTEM=" + c.subsystem, "MAJOR=8", "MINOR=0"})
		if err != nil {
			t.Fatal(err)
		}
		if e.Dev.Block != c.want {
			t.Errorf("%s of %q: block %v", c.devpath, c.subsystem, e.Dev.Block)
		}
	}
}

func TestParseNumbers(t *testing.T) {
	for _, c := range []struct {
		text         string
		major, minor uint32
		ok           bool
	}{
		{"8:0\n", 8, 0, true}, {"8:0", 8, 0, true}, {"0:39\n", 0, 39, true},
		{"", 0, 0, false}, {"8", 0, 0, false}, {"8:", 0, 0, false}, {":0", 0, 0, false}, {"8:0\n\n", 0, 0, false},
		{"8:0:1", 0, 0, false}, {"8: 0", 0, 0, false}, {"-8:0", 0, 0, false}, {"4096:0", 0, 0, false},
	} {
		major, minor, ok := uevent.ParseNumbers(c.text)
		if major != c.major || minor != c.minor || ok != c.ok {
			t.Errorf("%q: %d:%d %v", c.text, major, minor, ok)
		}
	}
}

func TestFromEnviron(t *testing.T) {
	e, err := uevent.FromEnviron([]string{
		"HOME=/", "PATH=/bin", "ACTION=remove", "DEVPATH=/devices/x", "DEVNAME=/dev/input/event0", "SEQNUM=12", "junk", "=x", "",
	})
	if err != nil {
		t.Fatal(err)
	}
	if e.Devname != "input/event0" {
		t.Errorf("DEVNAME %q: old kernels say /dev/", e.Devname)
	}
	if path, _ := e.Get("PATH"); path != "/bin" || e.Seqnum != 12 {
		t.Errorf("%+v", e)
	}
	for kv := range e.Env() {
		if strings.IndexByte(kv, '=') <= 0 {
			t.Errorf("%q is no variable", kv)
		}
	}
}

// TestFirstOfTwoCounts gives a variable twice: fields and commands see the same one.
func TestFirstOfTwoCounts(t *testing.T) {
	e, err := uevent.FromEnviron([]string{
		"ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=a", "SUBSYSTEM=b", "DEVNAME=", "DEVNAME=y", "MAJOR=1", "MINOR=3", "MAJOR=2", "SEQNUM=1", "SEQNUM=2",
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, field := range map[string]string{
		"SUBSYSTEM": e.Subsystem, "DEVNAME": e.Devname, "MAJOR": strconv.Itoa(int(e.Dev.Major)), "SEQNUM": strconv.FormatUint(e.Seqnum, 10),
	} {
		if value, _ := e.Get(key); value != field {
			t.Errorf("the field says %s=%q, Get says %q", key, field, value)
		}
	}
	keys := map[string]bool{}
	for kv := range e.Env() {
		key, _, _ := strings.Cut(kv, "=")
		if keys[key] {
			t.Errorf("%s is in Env twice", key)
		}
		keys[key] = true
	}
}

func TestFromSysfs(t *testing.T) {
	sda := uevent.Dev{Block: true, Major: 8}
	for _, c := range []struct {
		name, text string
		dev        uevent.Dev
		want       []string // beyond ACTION, DEVPATH and SUBSYSTEM
	}{
		{"disk", "MAJOR=8\nMINOR=0\nDEVNAME=sda\nDEVMODE=0640\nDEVTYPE=disk\nDISKSEQ=1\n", sda,
			[]string{"MAJOR=8", "MINOR=0", "DEVNAME=sda", "DEVMODE=0640", "DEVTYPE=disk", "DISKSEQ=1"}},
		{"no newline at the end", "MAJOR=8\nMINOR=0\nDEVNAME=sda", sda, []string{"MAJOR=8", "MINOR=0", "DEVNAME=sda"}},
		{"empty", "", uevent.Dev{}, nil},
		{"numbers that dev does not bear out", "MAJOR=9\nMINOR=9\nDEVNAME=sda\n", sda, []string{"MAJOR=8", "MINOR=0", "DEVNAME=sda"}},
		{"numbers of a device that has none", "MAJOR=8\nMINOR=0\nDEVNAME=sda\nX=y\n", uevent.Dev{}, []string{"X=y"}},
		{"forged by a name", "NAME=\"x\nMAJOR=8\nMINOR=0\nDEVNAME=sda\nDEVMODE=0666\n\"\n", uevent.Dev{}, []string{`NAME="x`}},
		{"forged on a device with numbers", "MAJOR=8\nMINOR=0\nDEVNAME=sda\nNAME=x\nDEVMODE=0666\nDEVUID=7\nDEVNAME=y\n", sda,
			[]string{"MAJOR=8", "MINOR=0", "DEVNAME=sda", "NAME=x"}},
		{"forged event", "X=y\nACTION=remove\nDEVPATH=/devices/z\nSUBSYSTEM=block\nSEQNUM=1\n", uevent.Dev{}, []string{"X=y"}},
		{"a NUL", "NAME=\"x\x00DEVNAME=sda\"\n", sda, []string{"MAJOR=8", "MINOR=0", "NAME=\"x"}},
		{"twice", "X=1\nX=2\nX=1\n", uevent.Dev{}, []string{"X=1", "X=2", "X=1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := uevent.FromSysfs("add", "/devices/x", "s", c.text, c.dev)
			if err != nil {
				t.Fatal(err)
			}
			want := append([]string{"ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=s"}, c.want...)
			if got := slices.Collect(e.Env()); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestSetDefault(t *testing.T) {
	e, err := uevent.FromEnviron([]string{"ACTION=add", "DEVPATH=/devices/x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range [][2]string{{"MAJOR", "1"}, {"MINOR", "3"}, {"SUBSYSTEM", "mem"}, {"ACTION", "change"}, {"DEVPATH", "/../x"}, {"", "x"}} {
		e.SetDefault(kv[0], kv[1])
	}
	if e.ID() != "c1:3" || e.Subsystem != "mem" || e.Action != "add" || e.Devpath != "/devices/x" || len(slices.Collect(e.Env())) != 5 {
		t.Errorf("%+v", e)
	}
}

// checkEvent fails where an event is not consistent in itself.
func checkEvent(t *testing.T, e *uevent.Event) {
	t.Helper()
	if e.Action == "" || !strings.HasPrefix(e.Devpath, "/") || strings.Contains(e.Devpath+"/", "/../") {
		t.Errorf("unusable event %+v", e)
	}
	if e.Sysname() == "" || strings.Contains(e.Sysname(), "/") {
		t.Errorf("sysname %q", e.Sysname())
	}
	if value, _ := e.Get("ACTION"); value != e.Action {
		t.Errorf("ACTION is %q in Env and %q in the field", value, e.Action)
	}
	all := map[string][]string{}
	for kv := range e.Env() {
		if strings.IndexByte(kv, '=') <= 0 || strings.IndexByte(kv, 0) >= 0 {
			t.Errorf("%q is no variable", kv)
		}
		key, value, _ := strings.Cut(kv, "=")
		all[key] = append(all[key], value)
	}
	for key, said := range all {
		if got := valuesOf(e, key); !slices.Equal(got, said) {
			t.Errorf("the values of %s are %q, Env has %q", key, got, said)
		}
		if first, _ := e.Get(key); first != said[0] {
			t.Errorf("Get says %s=%q, Env has %q", key, first, said)
		}
		if len(said) > 1 && slices.Contains([]string{"ACTION", "DEVPATH", "SUBSYSTEM", "DEVNAME", "MAJOR", "MINOR", "SEQNUM"}, key) {
			t.Errorf("%s, of which there is a field, is in Env several times: %q", key, said)
		}
	}
	if again := e.Pack().Unpack(); !reflect.DeepEqual(again, e) {
		t.Errorf("packed and unpacked it is %+v", again)
	}
}

func valuesOf(e *uevent.Event, key string) (all []string) {
	values := e.Values(key)
	for value, said := values.Next(); said; value, said = values.Next() {
		all = append(all, value)
	}
	return all
}

// TestSeveralValues has every source keep what is said several times, in its order.
func TestSeveralValues(t *testing.T) {
	vars := []string{"ACTION=change", "DEVPATH=/devices/x", "SUBSYSTEM=power_supply",
		"CHARGE_TYPES=[Fast] Standard", "CHARGE=1", "CHARGE_TYPES=[Adaptive]", "CHARGE_TYPES=", "CHARGE_TYPES=[Adaptive]"}
	kernel, err := uevent.ParseMessage(message(append([]string{"change@/devices/x"}, vars...)...))
	if err != nil {
		t.Fatal(err)
	}
	helper, err := uevent.FromEnviron(vars)
	if err != nil {
		t.Fatal(err)
	}
	sysfs, err := uevent.FromSysfs("change", "/devices/x", "power_supply", strings.Join(vars[3:], "\n"), uevent.Dev{})
	if err != nil {
		t.Fatal(err)
	}
	filled, err := uevent.FromEnviron(vars[:2])
	if err != nil {
		t.Fatal(err)
	}
	filled.SetDefaults(sysfs)
	for how, e := range map[string]*uevent.Event{
		"message": kernel, "environment": helper, "sysfs": sysfs, "filled up": filled, "packed": kernel.Pack().Unpack(),
	} {
		checkEvent(t, e)
		if got := slices.Collect(e.Env()); !slices.Equal(got, vars) {
			t.Errorf("%s: %q", how, got)
		}
		if got := valuesOf(e, "CHARGE_TYPES"); !slices.Equal(got, []string{"[Fast] Standard", "[Adaptive]", "", "[Adaptive]"}) {
			t.Errorf("%s: the values are %q", how, got)
		}
	}
	helper.SetDefaults(kernel)
	kernel.Relocate("/devices/y")
	kernel.SetDefault("CHARGE_TYPES", "x")
	vars[1] = "DEVPATH=/devices/y"
	if got := slices.Collect(kernel.Env()); !slices.Equal(got, vars) || len(valuesOf(helper, "CHARGE_TYPES")) != 4 {
		t.Errorf("relocated: %q; given its own: %q", got, slices.Collect(helper.Env()))
	}
}

// TestAppendMessage shows that what the kernel said is said again, byte for byte.
func TestAppendMessage(t *testing.T) {
	msg := message("add@/devices/x", "ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda", "EMPTY=", "A=b=c\n", "SEQNUM=7")
	e, err := uevent.ParseMessage(msg)
	if err != nil {
		t.Fatal(err)
	}
	if got := e.AppendMessage([]byte("before ")); string(got) != "before "+string(msg) {
		t.Errorf("%q became %q", msg, got)
	}
}

// FuzzParseMessage: what was parsed and is written again parses to the same.
func FuzzParseMessage(f *testing.F) {
	f.Add(message("add@/devices/x", "ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda", "SEQNUM=7"))
	f.Add(message("change@/devices/x", "ACTION=change", "DEVPATH=/devices/x", "X=a=b", "", "junk", "X=2"))
	f.Add(message("change@/devices/x", "ACTION=change", "DEVPATH=/devices/x", "X=1", "X=2", "X=1", "DEVNAME=a", "DEVNAME=b"))
	f.Add([]byte("libudev\x00\xfe\xed\xca\xfe"))
	f.Add([]byte("add@/x\x00ACTION=add\x00DEVPATH=/x"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		e, err := uevent.ParseMessage(msg)
		if err != nil {
			return
		}
		checkEvent(t, e)
		again, err := uevent.ParseMessage(e.AppendMessage(nil))
		if err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		if !slices.Equal(slices.Collect(again.Env()), slices.Collect(e.Env())) || again.Dev != e.Dev || again.Seqnum != e.Seqnum || again.Devname != e.Devname {
			t.Errorf("%+v became %+v", e, again)
		}
		helper, err := uevent.FromEnviron(slices.Collect(e.Env()))
		if err != nil || helper.Dev != e.Dev || helper.ID() != e.ID() {
			t.Errorf("as an environment: %+v, %v", helper, err)
		}
	})
}

// FuzzFromSysfs: no text of a uevent file changes what the other sources say.
func FuzzFromSysfs(f *testing.F) {
	f.Add("MAJOR=8\nMINOR=0\nDEVNAME=sda\nDEVTYPE=disk\n", uint32(8), uint32(0))
	f.Add("NAME=\"x\nMAJOR=8\nDEVNAME=sda\n\"\n", uint32(0), uint32(0))
	f.Add("X=1\nX=2\nX=1\nSEQNUM=1\nSEQNUM=2", uint32(0), uint32(0))
	f.Add("DEVMODE=0666\nX=\n\nDEVUID=1\nACTION=remove\nSEQNUM=1", uint32(1), uint32(3))
	f.Fuzz(func(t *testing.T, text string, major, minor uint32) {
		dev := uevent.Dev{Major: major & 0xfff, Minor: minor & 0xfffff}
		e, err := uevent.FromSysfs("add", "/devices/x", "s", text, dev)
		if err != nil {
			t.Fatal(err)
		}
		if e.Action != "add" || e.Devpath != "/devices/x" || e.Subsystem != "s" || e.Dev != dev || e.Seqnum != 0 {
			t.Errorf("%q made %+v", text, e)
		}
		if dev.IsZero() && e.Devname != "" {
			t.Errorf("%q gave a name to a device without numbers: %+v", text, e)
		}
		checkEvent(t, e)
	})
}

// TestForgedVariables reads uevent files into which a device put lines of its own.
func TestForgedVariables(t *testing.T) {
	text := "NAME=\"x\nPATH=/tmp/evil\nLD_PRELOAD=/tmp/evil.so\nBASH_ENV=/tmp/x\nlower=1\n1X=1\nA-B=1\n=1\nMODALIAS=input:b0003\nKEY=1 2\n"
	e, err := uevent.FromSysfs(uevent.Add, "/devices/virtual/input/input1", "input", text, uevent.Dev{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"ACTION=add", "DEVPATH=/devices/virtual/input/input1", "SUBSYSTEM=input", "NAME=\"x", "MODALIAS=input:b0003", "KEY=1 2"}
	if got := slices.Collect(e.Env()); !slices.Equal(got, want) {
		t.Errorf("the event holds %q, want %q", got, want)
	}
}

// BenchmarkParseMessage parses what the kernel says of a device with a node.
func BenchmarkParseMessage(b *testing.B) {
	message := []byte("add@/devices/virtual/mem/null\x00ACTION=add\x00DEVPATH=/devices/virtual/mem/null\x00" +
		"SUBSYSTEM=mem\x00MAJOR=1\x00MINOR=3\x00DEVNAME=null\x00DEVMODE=0666\x00SEQNUM=123456\x00")
	b.ReportAllocs()
	for b.Loop() {
		uevent.ParseMessage(message)
	}
}

// TestLate marks an event once, and leaves the one that it was made of alone.
func TestLate(t *testing.T) {
	e, err := uevent.FromEnviron([]string{"ACTION=add", "DEVPATH=/devices/x", "SEQNUM=7"})
	if err != nil {
		t.Fatal(err)
	}
	late := e.Late()
	if got := string(late.Late().AppendMessage(nil)); got != "add@/devices/x\x00ACTION=add\x00DEVPATH=/devices/x\x00SEQNUM=7\x00UEVENT_LATE=1\x00" {
		t.Errorf("the message is %q", got)
	}
	if _, said := e.Get(uevent.LateKey); said || late.Pack().Unpack().Seqnum != 7 {
		t.Errorf("the first says %q; the late one's number is %d", string(e.Pack()), late.Seqnum)
	}
}

// TestRenamed shows the event of an interface that was renamed.
func TestRenamed(t *testing.T) {
	e, err := uevent.FromEnviron([]string{"ACTION=add", "DEVPATH=/devices/virtual/net/eth0", "SUBSYSTEM=net", "INTERFACE=eth0", "IFINDEX=7", "SEQNUM=9"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lan0", "wan0"} {
		got := slices.Collect(e.Renamed(name).Env())
		want := []string{"ACTION=add", "DEVPATH=/devices/virtual/net/" + name, "SUBSYSTEM=net", "INTERFACE=" + name, "IFINDEX=7", "SEQNUM=9", "INTERFACE_OLD=eth0"}
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if e.Sysname() != "eth0" {
		t.Error("the event itself has changed")
	}
}
