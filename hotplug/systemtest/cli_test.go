package systemtest

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/kerneltest/build"
)

// call runs the program without a board.
func call(t *testing.T, args ...string) result {
	t.Helper()
	return (&board{T: t}).finish(exec.Command(kerneltest.Build(t), args...))
}

// TestExitCodes has wrong command lines too, each of which gets two lines and not a page.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		code int
	}{
		{"help", []string{"--help"}, exitDone},
		{"version", []string{"--version"}, exitDone},
		{"default config", []string{"--print-default-conf"}, exitDone},
		{"nothing", nil, exitUsage},
		{"unknown option", []string{"-q"}, exitUsage},
		{"unknown long option", []string{"--frobnicate"}, exitUsage},
		{"word", []string{"frobnicate"}, exitUsage},
		{"option without value", []string{"-s", "--dev"}, exitUsage},
		{"no number", []string{"-d", "-D", "three"}, exitUsage},
		{"no commands", []string{"-s", "-j", "0"}, exitUsage},
		{"option of watch", []string{"watch", "--frobnicate"}, exitUsage},
		{"event without a queue", []string{"event", "pop"}, exitUsage},
		{"option of info", []string{"info", "--frobnicate"}, exitUsage},
		{"option of log", []string{"log", "--frobnicate"}, exitUsage},
		{"settle's words", []string{"settle", "1", "2"}, exitUsage},
		{"no config", []string{"--check", "--conf", "/nonexistent"}, exitConfig},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := call(t, c.args...)
			if r.code != c.code {
				t.Errorf("exit code %d, want %d\n%s%s", r.code, c.code, r.stdout, r.stderr)
			}
			if (c.code == exitDone) != (r.stdout != "") && c.code != exitConfig {
				t.Errorf("stdout %q, stderr %q", r.stdout, r.stderr)
			}
			if lines := strings.Count(r.stderr, "\n"); c.code == exitUsage && c.args != nil && lines != 2 {
				t.Errorf("stderr has %d lines, want 2: %s", lines, r.stderr)
			}
		})
	}
}

// TestVersion says what was built, by the flags of a release and by others.
func TestVersion(t *testing.T) {
	for tags, want := range map[string]string{"": "(spool, names, udev, boot, hand-off)\n", "nospool,noudev": "(names, boot, hand-off)\n"} {
		for _, plain := range []bool{false, true} {
			program := filepath.Join(t.TempDir(), "devspool")
			hotplugtest.Must(t, build.Program(program, ".", build.Options{Tags: tags, Plain: plain}))
			if plain {
				want = strings.Replace(want, "hand-off", "no hand-off", 1)
			}
			out, err := exec.Command(program, "--version").Output()
			if err != nil || !strings.HasSuffix(string(out), want) {
				t.Errorf("tags %q, plain %v: %q, %v, want %s", tags, plain, out, err, want)
			}
		}
	}
}

func TestNoDev(t *testing.T) {
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	b.dev = b.dir + "/nonexistent"
	if r := b.run("-s"); r.code != exitSystem || r.stderr == "" {
		t.Errorf("exit code %d, stderr %q", r.code, r.stderr)
	}
}

func TestDefaultConfigHasNoProblems(t *testing.T) {
	for _, option := range []string{"--print-default-conf", "--print-udev-conf"} {
		b := &board{T: t, conf: t.TempDir() + "/mdev.conf"}
		text, _, _ := strings.Cut(call(t, option).stdout, "\n# or give groups") // groups may be missing
		b.write(b.conf, strings.ReplaceAll(text, "\n#-", "\n-"))                // with what it offers
		if r := call(t, "--check", "--conf", b.conf); text == "" || r.code != exitDone || r.stdout+r.stderr != "" {
			t.Errorf("%s: exit code %d\n%s%s", option, r.code, r.stdout, r.stderr)
		}
	}
}

func TestCheckNamesLines(t *testing.T) {
	b := &board{T: t, conf: t.TempDir() + "/mdev.conf"}
	b.write(b.conf, "sd[a 0:0 660\nsdb nosuchuser:0 660\nsdc 0:0 9999\nsdd 0:0 660 =../up\nsde 0:0\nsdf 0:0 660\n")
	r := call(t, "--check", "--conf", b.conf)
	if r.code != exitConfig {
		t.Errorf("exit code %d", r.code)
	}
	for _, line := range []string{":1:", ":2:", ":3:", ":4:", ":5"} {
		if !strings.Contains(r.stdout, b.conf+line) {
			t.Errorf("no problem in line %s:\n%s", line, r.stdout)
		}
	}
	if strings.Contains(r.stdout, b.conf+":6") {
		t.Errorf("a problem in a good line:\n%s", r.stdout)
	}
}

// TestAsNobody lets a user who may do nothing check and plan.
func TestAsNobody(t *testing.T) {
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda 0:6 640 >disk/\n")
	b.add(disk(0))
	kerneltest.Sh(t, "chmod 755 "+b.dir+"/.. "+b.dir+"/../..")
	as := func(args ...string) result {
		cmd := b.command(args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return b.finish(cmd)
	}
	if r := as("--check"); r.code != exitDone {
		t.Errorf("--check: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	r := as("--plan", disk(0).Devpath)
	if r.code != exitDone || !strings.Contains(r.stdout, "node disk/sda 0640 0:6") || !strings.Contains(r.stdout, b.conf+":1") {
		t.Errorf("--plan: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if r := as("--plan"); r.code != exitDone || !strings.Contains(r.stdout, "sda") {
		t.Errorf("--plan of all: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if got := b.snapshot(); len(got) != 0 {
		t.Errorf("a plan made %v", got)
	}
	if r := as("-s"); r.code == exitDone {
		t.Error("a scan that can make no node ended with 0")
	}
}

func TestPlanOfNoDevice(t *testing.T) {
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	if r := b.run("--plan", "/devices/nonexistent"); r.code != exitEvent || r.stderr == "" {
		t.Errorf("exit code %d, stderr %q", r.code, r.stderr)
	}
}

// TestFailedEvent looks at the exit code of a helper and of a scan that fail in part.
func TestFailedEvent(t *testing.T) {
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda 0:0 660 =file/\n")
	b.write(b.dev+"/file", "")
	b.add(disk(0), disk(1))
	r := b.run("-s")
	if r.code != exitEvent || !strings.Contains(r.stderr, "file") {
		t.Errorf("exit code %d\n%s", r.code, r.stderr)
	}
	if r := b.finish(b.helper(disk(0).Event("add"))); r.code != exitEvent {
		t.Errorf("helper: exit code %d\n%s", r.code, r.stderr)
	}
}

// TestScanInForeground has a scan end that is told to stay in the foreground, also where a loop
// runs: installers on Alpine call mdev -sf, and then go on.
func TestScanInForeground(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	b.add(disk(0))
	b.must(b.run("-sf"))
	b.has("sda block 0660 0:0 8:0")
	b.startLoop()
	b.add(disk(1))
	b.must(b.run("-fs"))
	b.has("sda block 0660 0:0 8:0", "sdb block 0660 0:0 8:16")
}

func TestMalformedEnvironment(t *testing.T) {
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	for _, devpath := range []string{"", "/", "/../etc", "devices/x", "/devices/../../x", "/devices//x", "/devices/x/"} {
		r := b.finish(b.helper(kerneltest.Event{Action: "add", Devpath: devpath}))
		if r.code == exitDone {
			t.Errorf("DEVPATH=%q: exit code 0", devpath)
		}
	}
	if got := b.snapshot(); len(got) != 0 {
		t.Errorf("made %v", got)
	}
}
