package modprobe

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	hotplugtest.RemoveModules()
	os.Exit(code)
}

// result is what a run of modprobe came to.
type result struct {
	code int
	out  []string
	err  string
}

func kmod(t *testing.T, args ...string) (r result) {
	t.Helper()
	cmd := exec.Command("modprobe", args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.code = exit.ExitCode()
	} else {
		hotplugtest.Must(t, err)
	}
	r.out, r.err = tidy(out.String()), stderr.String()
	return r
}

func ours(env []string, args ...string) (r result) {
	var out, stderr bytes.Buffer
	r.code = Run(args, env, Streams{&out, &stderr})
	r.out, r.err = tidy(out.String()), stderr.String()
	return r
}

// tidy returns lines, each once: kmod repeats some.
func tidy(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \n"); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestLikeKmod shows that options, output and exit codes are those of kmod's modprobe.
func TestLikeKmod(t *testing.T) {
	tree := hotplugtest.DebianModules(t)
	conf := t.TempDir()
	hotplugtest.WriteFile(t, conf+"/a.conf", "alias my-card loop\noptions loop max_loop=3\nblacklist nbd\nblacklist i2c_piix4\ninstall floppy /bin/false\ninstall pcspkr echo x\n"+
		"install made_up echo y\nremove ext4 echo no\nsoftdep fuse post: loop\n")
	common := []string{"-d", tree.Root, "-S", tree.Release, "-C", conf}
	for _, line := range []string{
		"-n -v loop", "-nv loop max_loop=9 x=y", "-n loop", "-n -v my-card", "-q nothing", "-qn nothing", "-n nothing", "-n -v -a nothing loop", "-nva loop nothing",
		"-R loop", "-R unix", "-R nothing", "-R pci:v00008086d00007113sv0sd0bc0sc0i0", "-R -a loop ext4", "-aR loop nothing", "-D ext4", "--show-depends ext4",
		"-D fuse max_user_bgreq=1", "-D fuse ext4", "-D unix", "-D fuse", "-D -a fuse ext4", "-D pcspkr", "-D floppy", "-D -i pcspkr", "-nvb nbd", "-nv nbd", "-nv pci:v00008086d00007113sv0sd0bc0sc0i0",
		"-n -v -b my-card", "--dry-run --verbose loop", "--show -v loop", "-f -n -v loop", "--first-time -n -v loop", "-nv unix", "-n --first-time unix", "-nrv ext4", "-nriv ext4", "-r nothing", "-n -v symbol:crc32c", "-R symbol:crc32c",
		"-n -v loop -a nbd", "-n -v -- loop", "-n -v made-up", "-n", "-a", "-Z", "-l", "--foo", "-s -n nothing", "-n -v a[b", "--resolve-alias loop",
		"-n --use-blacklist --verbose nbd", "-n --quiet nothing", "-n -v loop --all fuse", "-n -v -a",
	} {
		args := append(slices.Clone(common), strings.Fields(line)...)
		want, got := kmod(t, args...), ours(nil, args...)
		if got.code != want.code || !slices.Equal(got.out, want.out) {
			t.Errorf("%s: exit %d\n%s\n%swant %d\n%s\n%s", line, got.code, strings.Join(got.out, "\n"), got.err, want.code, strings.Join(want.out, "\n"), want.err)
		}
		if (got.err == "") != (want.err == "") {
			t.Errorf("%s: says %q, kmod %q", line, got.err, want.err)
		}
		if strings.Contains(want.err, "not found") && got.err != want.err {
			t.Errorf("%s: says %q, kmod %q", line, got.err, want.err)
		}
	}
}

// TestConfig shows that -c prints all that kmod's prints, whatever the order.
func TestConfig(t *testing.T) {
	tree := hotplugtest.DebianModules(t)
	conf := t.TempDir()
	hotplugtest.WriteFile(t, conf+"/a.conf", "alias my_card loop\noptions loop max_loop=3\nblacklist nbd\n")
	args := []string{"-d", tree.Root, "-S", tree.Release, "-C", conf, "-c"}
	lines := func(r result) map[string]bool {
		set := map[string]bool{}
		for _, line := range r.out {
			if !strings.HasPrefix(line, "softdep cifs") { // one without pre: and post:
				set[line] = true
			}
		}
		return set
	}
	want, got := lines(kmodLines(t, args...)), lines(oursLines(args...))
	for line := range want {
		if !got[line] {
			t.Errorf("without: %s", line)
		}
	}
	for line := range got {
		if !want[line] {
			t.Errorf("too many: %s", line)
		}
	}
}

func kmodLines(t *testing.T, args ...string) (r result) {
	out, err := exec.Command("modprobe", args...).Output()
	hotplugtest.Must(t, err)
	return result{out: strings.Split(strings.ReplaceAll(string(out), " \n", "\n"), "\n")}
}

func oursLines(args ...string) result {
	var out bytes.Buffer
	Run(args, nil, Streams{&out, &out})
	return result{out: strings.Split(strings.ReplaceAll(out.String(), " \n", "\n"), "\n")}
}

// TestOptions shows what is refused, and where options come from.
func TestOptions(t *testing.T) {
	tree := hotplugtest.DebianModules(t)
	env := []string{"MODPROBE_OPTIONS=-n -v --dirname=" + tree.Root + " --set-version " + tree.Release, marker + "=1"}
	conf := t.TempDir()
	hotplugtest.WriteFile(t, conf+"/a.conf", "install pcspkr echo x\nremove loop echo x\nnonsense\n")
	for _, c := range []struct {
		args  string
		code  int
		words string // in what is said
	}{
		{"loop", 0, ""}, {"loop -C", 1, "'-C' needs a value"}, {"--config", 1, "needs a value"}, {"--all=3 loop", 1, "'--all=3' takes no value"},
		{"-1 loop", 1, "'-1' is unknown"}, {"--wait 5 loop", 1, "option '--wait' is unknown"}, {"-C" + conf + " loop", 0, "a.conf:3: not understood"},
		{"-q -C " + conf + " loop", 0, ""}, {"-q -C /nothing -d / -S 0 loop", 1, ""},
	} {
		r := ours(env, strings.Fields(c.args)...)
		if r.code != c.code || !strings.Contains(r.err, c.words) || c.words == "" && r.err != "" {
			t.Errorf("%s: exit %d, %q", c.args, r.code, r.err)
		}
	}
	env[0] = strings.Replace(env[0], "-n -v ", "-q -C "+conf+" ", 1)
	for _, line := range []string{"pcspkr", "-r loop"} {
		if r := ours(env, strings.Fields(line)...); r.code != exitFailed || len(r.out) > 0 {
			t.Errorf("%s, whose command is for another program: exit %d, %q", line, r.code, r.out)
		}
	}
	for _, line := range []string{"--help", "-nh --bogus"} {
		if r := ours(nil, strings.Fields(line)...); r.code != 0 || len(r.out) < 10 || r.err != "" {
			t.Errorf("%s: %v", line, r)
		}
	}
}
