package nodes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// look is what a spy saw of a node.
type look struct {
	mode, uid, gid uint32
	is             string // its type and numbers
}

// spy looks at a path again and again while f runs, and returns how often it saw
// what: the answer to whether any moment shows a wrong mode or owner.
func spy(t *testing.T, path string, f func()) map[look]int {
	t.Helper()
	seen := map[look]int{}
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			var st unix.Stat_t
			if unix.Lstat(path, &st) != nil {
				continue
			}
			seen[look{st.Mode & 0o7777, st.Uid, st.Gid, fmt.Sprintf("%o %x", st.Mode&unix.S_IFMT, st.Rdev)}]++
		}
	})
	f()
	close(stop)
	watching.Wait()
	return seen
}

// A stat of the kernel is no snapshot: one that falls between two changes may mix
// them. So a wrong look counts only where it was seen more often than by chance.
const chance = 20

// TestModeWhileAdjusted watches a node that goes from one owner and mode to
// another and back: at no moment may anyone have a right that neither gives.
func TestModeWhileAdjusted(t *testing.T) {
	eachWay(t, func(b *board) {
		owners := []look{{mode: 0o640, uid: 0, gid: 0}, {mode: 0o604, uid: 7, gid: 6}}
		plans := []*Plan{makes("c1:3", "null", "null 0640 0:0"), makes("c1:3", "null", "null 0604 7:6")}
		b.apply(plans[0])
		seen := spy(b.T, b.path("null"), func() {
			for i := range 1000 {
				b.apply(plans[(i+1)%2])
			}
		})
		for s, times := range seen {
			right := slices.ContainsFunc(owners, func(o look) bool {
				return s.uid == o.uid && (s.gid == o.gid) && s.mode&^o.mode == 0
			})
			if !right && times > chance {
				b.Errorf("mode %o with owner %d:%d was seen %d times", s.mode, s.uid, s.gid, times)
			}
		}
	})
}

// TestOwnerFromTheStart watches a node of someone else's that is made, replaced
// and removed: whenever it is there, its type, numbers, owner and mode are right.
func TestOwnerFromTheStart(t *testing.T) {
	eachWay(t, func(b *board) {
		seen := spy(b.T, b.path("snd/timer"), func() {
			for range 300 {
				b.apply(makes("c116:33", "snd/timer", "snd/timer 4640 7:6"))
				b.apply(clears("c116:33", "snd/timer"))
			}
		})
		checkSeen(b, seen, look{mode: 0o4640, uid: 7, gid: 6})
	})
}

// TestReplaceAtOnce watches the place of a node that takes turns with a node of
// other numbers: there is no moment without one.
func TestReplaceAtOnce(t *testing.T) {
	eachWay(t, func(b *board) {
		plans := []*Plan{makes("c1:3", "null", "x 0640 7:6"), makes("c1:5", "zero", "x 0640 7:6")}
		b.apply(plans[0])
		missing := 0
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if unix.Access(b.path("x"), unix.F_OK) == unix.ENOENT {
					missing++
				}
			}
		}()
		seen := spy(b.T, b.path("x"), func() {
			for i := range 500 {
				b.apply(plans[(i+1)%2])
			}
		})
		close(stop)
		<-done
		if missing > 0 {
			b.Errorf("the node was missing %d times", missing)
		}
		checkSeen(b, seen, look{mode: 0o640, uid: 7, gid: 6})
	})
}

// checkSeen fails the test where a spy saw anything but want.
func checkSeen(b *board, seen map[look]int, want look) {
	b.Helper()
	for s, times := range seen {
		if s.mode != want.mode || s.uid != want.uid || s.gid != want.gid || !strings.HasPrefix(s.is, "20000 ") {
			b.Errorf("%+v was seen %d times, want mode %o and owner %d:%d", s, times, want.mode, want.uid, want.gid)
		}
	}
	if len(seen) == 0 {
		b.Log("the spy never saw the node")
	}
}

// TestSteps counts the system calls of one Apply that change something, and shows
// their order, by way of strace.
func TestSteps(t *testing.T) {
	needRoot(t)
	strace, err := exec.LookPath("strace")
	if err != nil {
		notTested(t, "the order of system calls", "strace")
	}
	for _, c := range []struct {
		name      string
		had, gets string // mode and owner of the node, before and after
		want      []string
	}{
		{"nothing to do", "0640 7:6", "0640 7:6", nil},
		{"wider", "0600 0:0", "0666 0:0", []string{"chmod 0666"}},
		{"narrower", "0666 0:0", "0600 0:0", []string{"chmod 0600"}},
		{"the owner alone", "0660 0:0", "0660 0:6", []string{"chown 0, 6"}},
		{"owner, and wider", "0600 0:0", "0660 0:6", []string{"chown 0, 6", "chmod 0660"}},
		{"owner, and narrower", "0666 0:0", "0660 0:6", []string{"chmod 0660", "chown 0, 6"}},
		{"owner, and other bits", "0640 0:0", "0604 7:6", []string{"chmod 0600", "chown 7, 6", "chmod 0604"}},
		{"owner, and bits that chown takes away", "4750 0:0", "4750 7:6", []string{"chown 7, 6", "chmod 4750"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBoard(t, t.TempDir())
			b.apply(makes("c1:3", "null", "null "+c.had))
			out := filepath.Join(t.TempDir(), "strace")
			run := child(t, "trace", b.dir, "null "+c.gets)
			cmd := exec.Command(strace, append([]string{"-f", "-qq", "-o", out, "-e", "trace=" + writing, run.Path}, run.Args[1:]...)...)
			cmd.Env = run.Env
			if text, err := cmd.CombinedOutput(); err != nil {
				notTested(t, "the order of system calls", "leave to trace: "+string(text))
			}
			text, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if got := steps(string(text)); !slices.Equal(got, c.want) {
				t.Errorf("steps %q, want %q\n%s", got, c.want, text)
			}
			b.check("null c1:3 " + c.gets)
		})
	}
}

// writing are the system calls that change a directory or a file's owner or mode.
// The access to a name of no file marks where Apply begins.
const writing = "/^(mkdir|mknod|rmdir|unlink|rename|link|symlink|chmod|fchmod|chown|fchown|lchown|truncate|utime|faccess|access).*"

// fchmodat2 is how a strace that is older than it shows the call.
const fchmodat2 = "syscall_0x1c4"

const mark = "/nodes-test-apply-begins"

// applyForTrace applies a plan for one node after a mark.
func applyForTrace(args []string) error {
	d, err := Open(args[0])
	if err != nil {
		return err
	}
	if _, err := d.LockDev(); err != nil {
		return err
	}
	unix.Access(mark, unix.F_OK)
	_, err = d.Apply(makes("c1:3", "null", args[1]))
	unix.Access(mark, unix.F_OK)
	return err
}

// steps reads what strace wrote between the marks: "chmod 0600", "chown 7, 6", and
// other calls by their names.
func steps(trace string) []string {
	parts := strings.Split(trace, mark)
	if len(parts) != 3 {
		return []string{"no marks"}
	}
	parts[1] = whole(parts[1])
	call := regexp.MustCompile(`(?m)^\d+ +(\w+)\((.*)\) += (\S+)`)
	owner := regexp.MustCompile(`, (\d+, \d+)\b`)
	var all []string
	for _, m := range call.FindAllStringSubmatch(parts[1], -1) {
		name, args, result := m[1], m[2], m[3]
		switch {
		case result != "0" || strings.Contains(name, "access"):
		case strings.Contains(name, "chmod") || name == fchmodat2:
			mode, _ := strconv.ParseUint(strings.Split(args, ", ")[2], 0, 32)
			all = append(all, "chmod "+Octal(uint32(mode)))
		case strings.Contains(name, "chown"):
			all = append(all, "chown "+owner.FindStringSubmatch(args)[1])
		default:
			all = append(all, name)
		}
	}
	return all
}

// whole joins the lines of a trace that tell of one call: where another thread says
// something meanwhile, there is one for its begin and one for its end.
func whole(trace string) string {
	resumed := regexp.MustCompile(`^<\.\.\. \w+ resumed>`)
	begun := map[string]string{} // by thread
	var all strings.Builder
	for line := range strings.Lines(trace) {
		thread, text, _ := strings.Cut(line, " ")
		text = strings.TrimLeft(text, " ")
		if begin, is := strings.CutSuffix(text, " <unfinished ...>\n"); is {
			begun[thread] = begin
			continue
		}
		if end := resumed.FindString(text); end != "" {
			text = begun[thread] + text[len(end):]
		}
		all.WriteString(thread + " " + text)
	}
	return all.String()
}

// TestReadSteps reads a trace in which threads interrupt each other.
func TestReadSteps(t *testing.T) {
	const trace = `1   chmod("/x", 0666) = 0
7   access("` + mark + `", F_OK) = -1 ENOENT (No such file or directory)
7   fchownat(9, "", 0, 6, AT_EMPTY_PATH <unfinished ...>
12  --- SIGURG {si_signo=SIGURG, si_code=SI_TKILL, si_pid=7, si_uid=0} ---
12  fchmodat(AT_FDCWD, "/proc/self/fd/9", 0660 <unfinished ...>
7   <... fchownat resumed>)           = 0
12  <... fchmodat resumed>)                    = 0
7   access("` + mark + `", F_OK) = -1 ENOENT (No such file or directory)
`
	if got, want := steps(trace), []string{"chown 0, 6", "chmod 0660"}; !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
}
