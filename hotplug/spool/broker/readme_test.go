package broker

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// readme returns the first block of a language in the README.
func readme(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## Every event, to every client")
	_, block, ok := strings.Cut(section, "```"+language+"\n")
	if !ok {
		t.Fatalf("the README has no %s", language)
	}
	block, _, _ = strings.Cut(block, "```")
	return block
}

// TestReadmeScript runs the README's script: it prints all events of block
// devices, and leaves nothing behind when it is killed. With the lock that the
// README tells of, so does one in a container, whose number is another's here.
func TestReadmeScript(t *testing.T) {
	t.Parallel()
	kerneltest.Need(t, "inotifywait")
	script := readme(t, "sh")
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	for _, test := range []struct {
		name                string
		resident, contained bool
	}{{"resident", true, false}, {"helper", false, false}, {"container", true, true}} {
		t.Run(test.name, func(t *testing.T) {
			h := newShop(t)
			h.Resident = test.resident
			s := h.open()
			cmd := exec.Command("/bin/sh", "-c", script)
			if test.contained {
				cmd.Args[2] = strings.Replace(script, "mv ", "exec 9<. && flock 9\nmv ", 1)
				cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
			}
			out, err := cmd.StdoutPipe()
			h.must(err)
			h.must(cmd.Start())
			h.until("the script's queue", func() bool { return len(glob(t, "/dev/events/disks-*")) == 1 })
			const events = 300
			for n := range events {
				h.must(s.Publish(numbered(n), nil))
				h.must(s.Publish(numbered(n), []string{"SUBSYSTEM=block"}))
			}
			lines := bufio.NewScanner(out)
			for n := range events {
				for _, want := range []string{"change@/devices/virtual/mem/null", "ACTION=change",
					"DEVPATH=/devices/virtual/mem/null", "N=" + strconv.Itoa(n), "SUBSYSTEM=block"} {
					if !lines.Scan() || lines.Text() != want {
						t.Fatalf("event %d: %q, want %q", n, lines.Text(), want)
					}
				}
			}
			h.must(cmd.Process.Kill())
			h.must(out.Close())
			cmd.Wait()
			h.until("the queue has gone", func() bool {
				if !test.resident {
					h.must(s.Upkeep())
				}
				return len(glob(t, "/dev/events/*")) == 0
			})
		})
	}
}

// TestShellHead reads by cat head && rm head alone.
func TestShellHead(t *testing.T) {
	t.Parallel()
	kerneltest.Need(t, "inotifywait")
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	h := newShop(t)
	s := h.open()
	cmd := exec.Command("/bin/sh", "-c", `q=/dev/events/sh-$$; mkdir $q && cd $q || exit
		inotifywait -m -e create . 2>&1 | while read -r _; do
			while cat head 2>/dev/null && rm head; do :; done
		done`)
	out, err := cmd.StdoutPipe()
	h.must(err)
	h.must(cmd.Start())
	defer cmd.Process.Kill()
	h.until("the script's queue", func() bool { return len(glob(t, "/dev/events/sh-*")) == 1 })
	const events = 300
	go h.publish(s, 1, events)
	lines := bufio.NewScanner(out)
	for n := 1; n <= events; {
		if !lines.Scan() {
			t.Fatal("the script has ended")
		}
		if value, ok := strings.CutPrefix(lines.Text(), "N="); ok {
			if value != strconv.Itoa(n) {
				t.Fatalf("event %s came in place of %d", value, n)
			}
			n++
		}
	}
	h.until("all is read", func() bool { return len(glob(t, "/dev/events/sh-*/*")) == 0 })
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestReadmeGo compiles what the README shows.
func TestReadmeGo(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp(".", "testdata-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	text := "package main\n\nimport (\n\t\"context\"\n\t\"fmt\"\n\n\t\"devspool/hotplug/spool\"\n)\n\n" +
		"func main() { fmt.Println(listen(context.Background())) }\n\nfunc listen(ctx context.Context) error {\n" + readme(t, "go") + "}\n"
	if err := os.WriteFile(dir+"/main.go", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "vet", "./"+dir).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
