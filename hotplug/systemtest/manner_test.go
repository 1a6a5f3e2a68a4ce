package systemtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"devspool/hotplug/kerneltest"
)

// bare is a root directory in which a helper is called by hand: it has a sysfs that
// consists of dev attributes, a config, a program, and nothing else: no /proc, no
// /dev/null, no passwd.
type bare struct {
	*testing.T
	root    string
	program string // its name in the root
}

// newBare makes one, with the program, which has to be static, as /mdev.
func newBare(t *testing.T, program string) *bare {
	t.Helper()
	b := &bare{T: t, root: filepath.Join(t.TempDir(), "root"), program: "/mdev"}
	for _, dir := range []string{"dev", "etc", "bin", "sys"} {
		if err := os.MkdirAll(filepath.Join(b.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	copyProgram(t, program, b.root+"/mdev")
	t.Cleanup(func() { // what a helper may have mounted there
		for _, at := range []string{"/dev/events", "/dev/.devspool/spool"} {
			_ = syscall.Unmount(b.root+at, syscall.MNT_DETACH)
		}
	})
	return b
}

func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bare) put(name, text string) {
	b.Helper()
	path := filepath.Join(b.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

// do runs the program in the root, and returns its status and what it said.
func (b *bare) do(env []string, args ...string) (code int, said string) {
	b.Helper()
	cmd := &exec.Cmd{Path: b.program, Args: append([]string{"mdev"}, args...), Dir: "/", Env: append([]string{"PATH=/bin"}, env...),
		SysProcAttr: &syscall.SysProcAttr{Chroot: b.root}}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		b.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// listing returns what is in /dev.
func (b *bare) listing() []string {
	b.Helper()
	lines, err := kerneltest.Snapshot(b.root + "/dev")
	if err != nil {
		b.Fatal(err)
	}
	return slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, ".devspool") })
}

// mannerCase is a config, calls by hand, and what is in /dev then.
type mannerCase struct {
	name  string
	conf  string // "" for none
	calls string // ACTION DEVPATH [KEY=VALUE...], a line each; "-s" scans
	want  string
	mend  string // why BusyBox's listing is another, or ""
}

// The devices of the bare sysfs: devpath and numbers.
var mannerDevices = map[string]string{
	"/block/sda":                 "8:0",
	"/block/sda/sda1":            "8:1",
	"/block/cciss!c0d0":          "104:0",
	"/class/tty/capi":            "191:0",
	"/class/tty/capi20":          "191:20",
	"/class/input/event3":        "13:67",
	"/class/snd/controlC0":       "116:0",
	"/class/sound/pcmC1D2p":      "116:34",
	"/class/mem/null":            "1:3",
	"/class/usb/lp0":             "180:0",
	"/class/misc/device-mapper":  "10:236",
	"/class/bsg/bus!usb!001!002": "189:1",
}

var mannerCases = []mannerCase{
	{"block without a config", "", "add /block/sda", "sda block 0660 0:0 8:0", ""},
	{"char without a config", "", "add /class/tty/capi", "capi char 0660 0:0 191:0", ""},
	{"mode", "sda 0:0 644\n", "add /block/sda", "sda block 0644 0:0 8:0", ""},
	{"no rule matches", "sdb 0:0 644\n", "add /block/sda", "sda block 0660 0:0 8:0", ""},
	{"the first of two rules", "sda 0:0 640\nsda 0:0 600\n", "add /block/sda", "sda block 0640 0:0 8:0", ""},
	{"owner", "sda 5:6 600\n", "add /block/sda", "sda block 0600 5:6 8:0", ""},
	{"root without passwd", "sda root:root 600\n", "add /block/sda", "sda block 0600 0:0 8:0", "it drops a rule whose owner no passwd knows"},
	{"expression", "sd[a-z] 0:0 604\n", "add /block/sda", "sda block 0604 0:0 8:0", ""},
	{"whole name", "sda 0:0 604\n", "add /block/sda/sda1", "sda1 block 0660 0:0 8:1", ""},
	{"=", "sda 0:0 600 =disk\n", "add /block/sda", "disk block 0600 0:0 8:0", ""},
	{"= into a directory", "sda 0:0 600 =disks/\n", "add /block/sda", "disks dir 0755 0:0\ndisks/sda block 0600 0:0 8:0", ""},
	{"= below directories", "sda 0:0 600 =a/b/c\n", "add /block/sda", "a dir 0755 0:0\na/b dir 0755 0:0\na/b/c block 0600 0:0 8:0", ""},
	{">", "sda 0:0 600 >disk\n", "add /block/sda", "disk block 0600 0:0 8:0\nsda link -> disk", ""},
	{"> into a directory", "capi 0:0 600 >isdn/\n", "add /class/tty/capi", "capi link -> isdn/capi\nisdn dir 0755 0:0\nisdn/capi char 0600 0:0 191:0", ""},
	{"!", "sda 0:0 600 !\n", "add /block/sda", "", ""},
	{"%1", "capi([0-9]*) 0:0 600 =isdn/c%1\n", "add /class/tty/capi20", "isdn dir 0755 0:0\nisdn/c20 char 0600 0:0 191:20", ""},
	{"%1 that is empty", "capi([0-9]*) 0:0 600 =isdn%1\n", "add /class/tty/capi", "isdn char 0600 0:0 191:0", "it leaves the % of an empty group"},
	{"%0 and %2", "pcm(C[0-9])(D[0-9])p 0:0 600 >snd%2/%0\n", "add /class/sound/pcmC1D2p",
		"pcmC1D2p link -> sndD2/pcmC1D2p\nsndD2 dir 0755 0:0\nsndD2/pcmC1D2p char 0600 0:0 116:34", ""},
	{"%2 after a group that took no part", "s([0-9])*d([a-z]+) 0:0 640 =d/%2_%0\n", "add /block/sda", "d dir 0755 0:0\nd/a_sda block 0640 0:0 8:0", ""},
	{"= to a path of /dev", "sda 0:0 600 =/dev/disks/\n", "add /block/sda", "disks dir 0755 0:0\ndisks/sda block 0600 0:0 8:0", ""},
	{"> to a path of /dev", "sda 0:0 600 >/dev/./disks//x\n", "add /block/sda", "disks dir 0755 0:0\ndisks/x block 0600 0:0 8:0\nsda link -> disks/x",
		"the link has the path as it is written"},
	{"- for all that looks on", "-.* 5:6 666 *:\nsdb 0:0 600\n", "add /block/sda", "sda block 0660 0:0 8:0", ""},
	{"- for all that looks on before a rule", "-.* 5:6 666 *:\nsda 0:0 600\n", "add /block/sda", "sda block 0600 0:0 8:0", ""},
	{"- and another mode", "-sda 0:0 640\nsda 0:0 600\n", "add /block/sda", "sda block 0600 0:0 8:0", ""},
	{"- with > keeps its link", "-sda 0:0 640 >disk\nsda 0:0 600\n", "add /block/sda", "disk block 0600 0:0 8:0\nsda link -> disk", ""},
	{"- with > and a later >", "-sda 0:0 640 >a\nsda 0:0 600 >b\n", "add /block/sda", "a block 0640 0:0 8:0\nb block 0600 0:0 8:0\nsda link -> a", ""},
	{"- with > and a later > there", "-sda 0:0 640 >a\nsda 0:0 600 >a\n", "add /block/sda", "a block 0600 0:0 8:0\nsda link -> a", ""},
	{"- with = and a later rule", "-sda 0:0 640 =disk\nsda 0:0 600\n", "add /block/sda", "disk block 0640 0:0 8:0\nsda block 0600 0:0 8:0", ""},
	{"- with ! and a later rule", "-sda 0:0 640 !\nsda 0:0 600 =disk\n", "add /block/sda", "", ""},
	{"@ numbers", "@8,0 0:0 606\n", "add /block/sda", "sda block 0606 0:0 8:0", ""},
	{"@ numbers and a group", "@8,0 0:1 644\n", "add /block/sda", "sda block 0644 0:1 8:0", ""},
	{"@ range", "@191,0-30 0:0 606 =isdn/\n", "add /class/tty/capi20", "isdn dir 0755 0:0\nisdn/capi20 char 0606 0:0 191:20", ""},
	{"@ after -", "-@8,0 0:0 606 =a\nsda 0:0 600 =b\n", "add /block/sda", "a block 0606 0:0 8:0\nb block 0600 0:0 8:0", ""},
	{"$ variable", "$MODALIAS=usb:.* 0:0 602\n", "add /class/usb/lp0 MODALIAS=usb:v1", "lp0 char 0602 0:0 180:0", ""},
	{"$ variable is matched whole", "$MODALIAS=usb 0:0 600\n$MODALIAS=usb.* 0:0 602\n", "add /class/usb/lp0 MODALIAS=usb:v1", "lp0 char 0602 0:0 180:0", ""},
	{"$ variable's group", "$ID=a(.*) 0:0 602 =u%1\n", "add /class/usb/lp0 ID=axy", "uxy char 0602 0:0 180:0", ""},
	{"condition holds", "SUBSYSTEM=block;.* 0:0 601\n", "add /block/sda SUBSYSTEM=block", "sda block 0601 0:0 8:0", ""},
	{"condition does not hold", "SUBSYSTEM=net;.* 0:0 601\n", "add /block/sda SUBSYSTEM=block", "sda block 0660 0:0 8:0", ""},
	{"command", "sda 0:0 600 @echo $MDEV $ACTION >out\n", "add /block/sda", "out file 0666 0:0 8 bytes\nsda block 0600 0:0 8:0", ""},
	{"command of a moved one", "sda 0:0 600 =a/b @echo $MDEV >out\n", "add /block/sda", "a dir 0755 0:0\na/b block 0600 0:0 8:0\nout file 0666 0:0 4 bytes", ""},
	{"command of a remove", "sda 0:0 600 $echo $MDEV >out\n", "add /block/sda\nremove /block/sda", "out file 0666 0:0 4 bytes", ""},
	{"command that is not there", "sda 0:0 600 @/bin/nothing\n", "add /block/sda", "sda block 0600 0:0 8:0", ""},
	{"remove", "", "add /block/sda\nremove /block/sda", "", ""},
	{"remove of a link", "sda 0:0 600 >disk\n", "add /block/sda\nremove /block/sda", "", ""},
	{"twice", "sda 0:0 600\n", "add /block/sda\nadd /block/sda", "sda block 0600 0:0 8:0", ""},
	{"change makes nothing", "", "change /block/sda", "", ""},
	{"comment and blanks", "# x\n\n  sda \t0:0  640 # y\n", "add /block/sda", "sda block 0640 0:0 8:0", ""},
	{"a line that is no rule", "nonsense\nsda 0:0 640\n", "add /block/sda", "sda block 0640 0:0 8:0", ""},
}

// play does a case and returns the listing. The program must exit 0 each time.
func (b *bare) play(c mannerCase) []string {
	b.Helper()
	for devpath, numbers := range mannerDevices {
		b.put("sys"+devpath+"/dev", numbers+"\n")
	}
	if c.conf != "" {
		b.put("etc/mdev.conf", c.conf)
	}
	for call := range strings.Lines(c.calls) {
		words := strings.Fields(call)
		code, said := b.do(append([]string{"ACTION=" + words[0], "DEVPATH=" + words[1]}, words[2:]...))
		if code != exitDone {
			b.Errorf("%s: exit status %d: %s", words, code, said)
		}
	}
	return b.listing()
}

// TestMannerOfMdev calls a helper by hand in a root that holds next to nothing, and
// compares the listing of /dev with what it should be; BusyBox's too where it is
// there, but for the mends.
func TestMannerOfMdev(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	busybox := kerneltest.Need(t, "busybox")
	if real, err := filepath.EvalSymlinks(busybox); err == nil {
		busybox = real
	}
	for _, c := range mannerCases {
		t.Run(c.name, func(t *testing.T) {
			var want []string
			if c.want != "" {
				want = strings.Split(c.want, "\n")
			}
			for _, program := range []string{kerneltest.Build(t), busybox} {
				b := newBare(t, program)
				copyProgram(t, busybox, b.root+"/bin/sh")
				got := b.play(c)
				same := slices.Equal(got, want)
				switch {
				case program != busybox && !same:
					t.Errorf("ours has\n%s\nand not\n%s", strings.Join(got, "\n"), c.want)
				case program == busybox && !same && c.mend == "":
					t.Errorf("BusyBox has\n%s\nand not\n%s", strings.Join(got, "\n"), c.want)
				case program == busybox && same && c.mend != "":
					t.Errorf("BusyBox does the same: %s", c.mend)
				}
			}
		})
	}
}
