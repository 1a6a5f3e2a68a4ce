package systemtest

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
)

// background starts a loop in the background, whose end is that of the test's namespace.
func (b *board) background(args ...string) *kerneltest.Injector {
	b.Helper()
	b.must(b.run(append([]string{"-d"}, args...)...))
	in, err := kerneltest.NewInjector()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close() })
	return in
}

// inject sends events, which are done when it returns, and their commands have ended.
func (b *board) inject(in *kerneltest.Injector, events ...kerneltest.Event) {
	b.Helper()
	for _, e := range events {
		if err := in.Inject(e); err != nil {
			kerneltest.Cannot(b, "%v", err)
		}
	}
	b.must(b.run("settle", "20", "--quiet", "0"))
}

// syslogd listens where syslog's daemon does, and keeps what it hears.
func syslogd(t *testing.T) *transcript {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/dev/log", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	heard := new(transcript)
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			fmt.Fprintf(heard, "%s\n", buf[:n])
		}
	}()
	return heard
}

// failures are rules whose commands fail, each in its own way, and what the log of a loop in
// the background is to have of it.
func failures(dir string) string {
	return "-sda 0:0 660 @printf 'first\\nlast \\001line\\n\\n' >&2; exit 3\n" +
		"-sda 0:0 660 *nosuch-program at all\n" +
		"-sda 0:0 660 */nosuch/program\n" +
		"-sda 0:0 660 *kill -9 $$\n" +
		"-sd[b-z] 0:0 660 @printf 'one\\ntwo\\n\\nthree\\n \\nfour\\n' >&2; exit 4\n" +
		"-ttyS1 0:0 660 @head -c 100000 /dev/zero | tr '\\0' x >&2; exit 5\n" +
		"-ttyS2 0:0 660 @head -c 1048576 /dev/zero | tr '\\0' '\\n' >&2; echo $? >" + dir + "/status; echo the end >&2; exit 6\n" +
		"-ttyS3 0:0 660 @(until test -e " + dir + "/go; do sleep 0.05; done; head -c 300000 /dev/zero >&2; echo $? >" + dir + "/daemon) & echo left >&2; exit 7\n"
}

// checkFailures lets these commands run, and looks at the log. The number of events for each
// device does not matter.
func (b *board) checkFailures(in *kerneltest.Injector, log func() string, escapes string) {
	b.Helper()
	e := b.plug(disk(0))
	b.inject(in, e, disk(0).Event("change"), e, disk(0).Event("change"), e)
	for n := 1; n <= 13; n++ {
		b.inject(in, b.plug(disk(n)))
	}
	b.inject(in, b.plug(terminal(1)), b.plug(terminal(2)))
	begun := time.Now()
	b.inject(in, b.plug(terminal(3)))
	if took := time.Since(begun); took > 3*time.Second {
		b.Errorf("what a command left behind delayed its end: %v", took)
	}
	b.write(b.dir+"/go", "")
	kerneltest.Until(b, patience, "what it left behind to go on", b.contains("daemon", "0\n"))
	if got := b.read(b.dir + "/status"); got != "0\n" {
		b.Errorf("a command that writes much was told %q", got)
	}
	text := log()
	for what, times := range map[string]int{
		"exit status 3: first | last " + escapes: 1,
		"exit status 127: ":                      1,
		"/nosuch/program: no such file":          1,
		"by signal 9":                            1,
		"exit status 4: two | three | four":      10,
		"exit status 5: xxx":                     1,
		"exit status 6: the end":                 1,
		"exit status 7: left":                    1,
	} {
		if n := strings.Count(text, what); n != times {
			b.Errorf("the log says %q %d times, want %d:\n%s", what, n, times, head(text, 40))
		}
	}
	for line := range strings.Lines(text) {
		if len(line) > 1500 {
			b.Errorf("a line of %d bytes", len(line))
		}
	}
}

// TestErrorsInSyslog looks at what the log of a loop in the background has of commands that
// fail, where it is syslog's.
func TestErrorsInSyslog(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	heard := syslogd(t)
	b.configure(failures(b.dir))
	b.checkFailures(b.background("-S"), heard.String, `\x01line`)
}

// TestErrorsInKmsg does the same where it is the kernel's.
func TestErrorsInKmsg(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	b.write("/dev/kmsg", "")
	b.configure(failures(b.dir))
	b.checkFailures(b.background(), func() string { return b.read("/dev/kmsg") }, `\x01line`)
}

// TestErrorsOfHelper does so for the kernel's helper, whose log is a file of the board's.
func TestErrorsOfHelper(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "sda 0:0 660 @printf 'first\\nlast \\001line\\n' >&2; exit 3\n")
	log := filepath.Join(b.dev, "mdev.log")
	b.write(log, "")
	if err := b.serve(b.plug(disk(0))).Wait(); err != nil {
		t.Error(err)
	}
	if text := b.read(log); !strings.Contains(text, `exit status 3: first | last \x01line`) {
		t.Errorf("the log says\n%s", text)
	}
}

// TestErrorsInForeground shows that commands have the standard error of a loop that somebody
// watches, which does not repeat them.
func TestErrorsInForeground(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda 0:0 660 @echo why >&2; exit 3\n")
	l := b.startLoop()
	l.send(b.plug(disk(0)))
	b.must(b.run("settle", "20", "--quiet", "0"))
	l.stop()
	if text := l.stderr.String(); !strings.Contains(text, "\nwhy\n") && !strings.HasPrefix(text, "why\n") || !strings.Contains(text, "exit status 3\n") {
		t.Errorf("it says\n%s", text)
	}
}
