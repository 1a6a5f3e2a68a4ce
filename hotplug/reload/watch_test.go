package reload

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/sys"
)

// watched is a config that is watched, in a directory of the test's own. It reads the config as the loop
// does.
type watched struct {
	*watcher
	t    *testing.T
	dir  string
	read hotplugtest.Collected[string] // the texts that were read; "-" for no file
	log  *hotplugtest.Log
}

// watchConf watches dir/etc/mdev.conf, of which the text is "old".
func watchConf(t *testing.T) *watched {
	t.Helper()
	w := &watched{t: t, dir: t.TempDir(), log: hotplugtest.NewLog(t)}
	w.write("etc/mdev.conf", "old")
	w.watch()
	return w
}

func (w *watched) watch() {
	w.t.Helper()
	var err error
	path := w.at("etc/mdev.conf")
	w.watcher, err = newWatcher(path, w.log.Logger, func() {
		text, err := sys.ReadFile(path)
		if err != nil {
			text = "-"
		}
		w.read.Add(text)
	})
	hotplugtest.Must(w.t, err)
	w.t.Cleanup(w.close)
}

func (w *watched) at(name string) string { return filepath.Join(w.dir, name) }

func (w *watched) write(name, text string) { hotplugtest.WriteFile(w.t, w.at(name), text) }

func (w *watched) rename(from, to string) { hotplugtest.Must(w.t, os.Rename(w.at(from), w.at(to))) }

func (w *watched) link(text, name string) { hotplugtest.Must(w.t, os.Symlink(text, w.at(name))) }

func (w *watched) remove(name string) { hotplugtest.Must(w.t, os.RemoveAll(w.at(name))) }

// want waits until the last text that was read is text.
func (w *watched) want(text string) {
	w.t.Helper()
	hotplugtest.Eventually(w.t, "the reading of "+text, func() bool {
		all := w.read.List()
		return len(all) > 0 && all[len(all)-1] == text
	})
}

// wantReads waits until the config was read that often.
func (w *watched) wantReads(n int) {
	w.t.Helper()
	hotplugtest.Eventually(w.t, strconv.Itoa(n)+" reads", func() bool { return len(w.read.List()) >= n })
}

// wantAll fails the test where other texts were read, or one more often. It ends with a change of its
// own, behind which no late read can come.
func (w *watched) wantAll(texts ...string) {
	w.t.Helper()
	w.want(texts[len(texts)-1])
	w.write("etc/mdev.conf", "last")
	w.want("last")
	if got := w.read.List(); !slices.Equal(got, append(texts, "last")) {
		w.t.Errorf("read: %q, want %q", got, texts)
	}
}

// TestWatch shows which changes of the file and its directories are noticed.
func TestWatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		does func(w *watched)
		want []string
	}{
		{"written in place", func(w *watched) { w.write("etc/mdev.conf", "new") }, []string{"new"}},
		{"the same text anew", func(w *watched) { w.write("etc/mdev.conf", "old") }, []string{"old"}},
		{"renamed over", func(w *watched) {
			w.write("etc/mdev.conf~", "new")
			w.rename("etc/mdev.conf~", "etc/mdev.conf")
		}, []string{"new"}},
		{"renamed over from elsewhere", func(w *watched) {
			w.write("tmp", "new")
			w.rename("tmp", "etc/mdev.conf")
		}, []string{"new"}},
		{"hard link", func(w *watched) {
			w.write("tmp", "new")
			w.remove("etc/mdev.conf")
			hotplugtest.Must(w.t, os.Link(w.at("tmp"), w.at("etc/mdev.conf")))
		}, []string{"new"}},
		{"written by another name", func(w *watched) {
			hotplugtest.Must(w.t, os.Link(w.at("etc/mdev.conf"), w.at("other")))
			w.write("other", "new")
		}, []string{"new"}},
		{"removed", func(w *watched) { w.remove("etc/mdev.conf") }, []string{"-"}},
		{"renamed away", func(w *watched) { w.rename("etc/mdev.conf", "etc/x") }, []string{"-"}},
		{"removed and made again", func(w *watched) {
			w.remove("etc/mdev.conf")
			w.want("-")
			w.write("etc/mdev.conf", "new")
		}, []string{"-", "new"}},
		{"as an editor does", func(w *watched) {
			w.rename("etc/mdev.conf", "etc/mdev.conf~")
			w.write("etc/mdev.conf", "n")
			w.write("etc/mdev.conf", "new")
			w.remove("etc/mdev.conf~")
		}, []string{"new"}},
		{"directory replaced", func(w *watched) {
			w.write("etc.new/mdev.conf", "new")
			w.rename("etc", "etc.old")
			w.rename("etc.new", "etc")
		}, []string{"new"}},
		{"directories exchanged", func(w *watched) {
			w.write("etc.new/mdev.conf", "new")
			hotplugtest.Must(w.t, unix.Renameat2(unix.AT_FDCWD, w.at("etc.new"), unix.AT_FDCWD, w.at("etc"), unix.RENAME_EXCHANGE))
		}, []string{"new"}},
		{"directory removed", func(w *watched) { w.remove("etc") }, []string{"-"}},
		{"directory removed and made again", func(w *watched) {
			w.remove("etc")
			w.want("-")
			w.write("etc/mdev.conf", "new")
		}, []string{"-", "new"}},
		{"directory renamed away and back", func(w *watched) {
			w.rename("etc", "x")
			w.want("-")
			w.write("x/mdev.conf", "new")
			w.rename("x", "etc")
		}, []string{"-", "new"}},
		{"all above it removed and made again", func(w *watched) {
			w.remove("")
			w.want("-")
			w.write("etc/mdev.conf", "new")
		}, []string{"-", "new"}},
		{"became a link", func(w *watched) {
			w.write("usr/share/x.conf", "new")
			w.remove("etc/mdev.conf")
			w.link("../usr/share/x.conf", "etc/mdev.conf")
		}, []string{"new"}},
		{"directory became a link", func(w *watched) {
			w.rename("etc", "var")
			w.write("var/mdev.conf", "new")
			w.link(w.at("var"), "etc")
		}, []string{"new"}},
		{"a link to itself, and mended", func(w *watched) {
			w.remove("etc/mdev.conf")
			w.link("mdev.conf", "etc/mdev.conf")
			w.want("-")
			w.remove("etc/mdev.conf")
			w.write("etc/mdev.conf", "new")
		}, []string{"-", "new"}},
		{"a piece comes, and its directory with it", func(w *watched) { w.write("etc/mdev.conf.d/a.conf", "x") }, []string{"old"}},
		{"a piece is written, hidden by nothing, and goes", func(w *watched) {
			w.write("etc/mdev.conf.d/a.conf", "x")
			w.wantReads(1)
			w.write("etc/mdev.conf.d/a.conf", "y")
			w.wantReads(2)
			w.write("etc/mdev.conf", "new")
			w.wantReads(3)
			w.remove("etc/mdev.conf.d/a.conf")
			w.wantReads(4)
		}, []string{"old", "old", "new", "new"}},
		{"a piece behind a link is written", func(w *watched) {
			w.write("usr/a", "x")
			w.write("etc/mdev.conf.d/b.conf", "x")
			w.link("../../usr/a", "etc/mdev.conf.d/a.conf")
			w.wantReads(1)
			w.write("usr/a", "y")
			w.wantReads(2)
		}, []string{"old", "old"}},
		{"what is no piece comes", func(w *watched) {
			w.write("etc/mdev.conf.d/README", "x")
			w.write("etc/mdev.conf.d/a.conf~", "x")
			pause()
			w.write("etc/mdev.conf", "new")
		}, []string{"new"}},
		{"others in the directory", func(w *watched) {
			for _, name := range []string{"etc/mdev", "etc/mdev.conf2", "etc/mdev.conf~", "x/mdev.conf"} {
				w.write(name, "other")
				w.remove(name)
			}
			w.write("etc/mdev.conf", "new")
		}, []string{"new"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := watchConf(t)
			c.does(w)
			w.wantAll(c.want...)
			if lines := w.log.Lines(); len(lines) > 0 {
				t.Errorf("logged %q", lines)
			}
		})
	}
}

// TestWatchLinks is about a config behind links: every link and every directory that they lead through is
// watched.
func TestWatchLinks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		does func(w *watched)
		want []string
	}{
		{"the file written", func(w *watched) { w.write("usr/share/v1/x.conf", "new") }, []string{"new"}},
		{"the file renamed over", func(w *watched) {
			w.write("usr/share/v1/y", "new")
			w.rename("usr/share/v1/y", "usr/share/v1/x.conf")
		}, []string{"new"}},
		{"the link led elsewhere", func(w *watched) {
			w.write("y.conf", "new")
			w.link("../y.conf", "etc/y")
			w.rename("etc/y", "etc/mdev.conf")
		}, []string{"new"}},
		{"a link to a directory led elsewhere", func(w *watched) {
			w.write("usr/share/v2/x.conf", "new")
			w.link("v2", "usr/share/next")
			w.rename("usr/share/next", "usr/share/current")
		}, []string{"new"}},
		{"the link dangles, and is mended", func(w *watched) {
			w.remove("usr")
			w.want("-")
			w.write("usr/share/current/x.conf", "new")
		}, []string{"-", "new"}},
		{"the link became a file", func(w *watched) {
			w.remove("etc/mdev.conf")
			w.write("etc/mdev.conf", "new")
		}, []string{"new"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := &watched{t: t, dir: t.TempDir(), log: hotplugtest.NewLog(t)}
			w.write("usr/share/v1/x.conf", "old")
			w.link("v1", "usr/share/current")
			hotplugtest.Must(t, os.Mkdir(w.at("etc"), 0o755))
			w.link("../usr/./share/current/x.conf", "etc/mdev.conf")
			w.watch()
			c.does(w)
			w.wantAll(c.want...)
		})
	}
}

// TestWatchHalfWritten shows that the file is not read while a process has it open for writing, whatever
// else happens meanwhile, and however the file came to its place.
func TestWatchHalfWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		begin func(w *watched) *os.File
	}{
		{"in place", func(w *watched) *os.File {
			return w.open("etc/mdev.conf", os.O_WRONLY|os.O_TRUNC)
		}},
		{"made anew", func(w *watched) *os.File {
			w.remove("etc/mdev.conf")
			return w.open("etc/mdev.conf", os.O_WRONLY|os.O_CREATE)
		}},
		{"in a new directory", func(w *watched) *os.File {
			w.remove("etc")
			hotplugtest.Must(w.t, os.Mkdir(w.at("etc"), 0o755))
			return w.open("etc/mdev.conf", os.O_WRONLY|os.O_CREATE)
		}},
		{"renamed over before its end", func(w *watched) *os.File {
			file := w.open("tmp", os.O_WRONLY|os.O_CREATE)
			w.rename("tmp", "etc/mdev.conf")
			return file
		}},
		{"behind a new link", func(w *watched) *os.File {
			file := w.open("tmp", os.O_WRONLY|os.O_CREATE)
			w.remove("etc/mdev.conf")
			w.link("../tmp", "etc/mdev.conf")
			return file
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := watchConf(t)
			file := c.begin(w)
			file.WriteString("ne")
			// Another process opens and closes it, which is an event.
			second := w.open("etc/mdev.conf", os.O_WRONLY)
			second.Close()
			pause()
			file.WriteString("w")
			hotplugtest.Must(t, file.Close())
			w.wantAll("new")
		})
	}
}

// pause lasts longer than the watcher's debounce time.
func pause() { time.Sleep(3 * debounce) }

func (w *watched) open(name string, flags int) *os.File {
	w.t.Helper()
	file, err := os.OpenFile(w.at(name), flags, 0o644)
	hotplugtest.Must(w.t, err)
	return file
}

// TestReloadHalfWritten reloads the config while a process has it open for writing.
func TestReloadHalfWritten(t *testing.T) {
	t.Parallel()
	c := fileConfig(t)
	file, err := os.OpenFile(c.path, os.O_WRONLY|os.O_TRUNC, 0)
	hotplugtest.Must(t, err)
	if err := c.Reload(); err == nil || !strings.Contains(err.Error(), "mdev.conf is being written; the old config stays") {
		t.Errorf("error %v", err)
	}
	hotplugtest.Must(t, file.Close())
	hotplugtest.Must(t, c.Reload())
}

// TestReloadDelaysWriters shows that a process which opens the config for writing while it is read waits.
func TestReloadDelaysWriters(t *testing.T) {
	t.Parallel()
	c := fileConfig(t)
	var writer sync.WaitGroup
	read := ""
	c.read = func() (*conf.Config, error) {
		begun := make(chan bool)
		writer.Go(func() {
			close(begun)
			if err := os.WriteFile(c.path, []byte("new"), 0o644); err != nil {
				t.Error(err)
			}
		})
		<-begun
		time.Sleep(20 * time.Millisecond) // in which the write would happen
		read = hotplugtest.Contents(t, c.path)
		return c.rules, nil
	}
	hotplugtest.Must(t, c.Reload())
	if read != "old" {
		t.Errorf("read: %q", read)
	}
	hotplugtest.Within(t, "the write", writer.Wait)
	if got := hotplugtest.Contents(t, c.path); got != "new" {
		t.Errorf("the file holds %q", got)
	}
}

// fileConfig returns a Config with a file, of which the text is "old".
func fileConfig(t *testing.T) *Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mdev.conf")
	hotplugtest.WriteFile(t, path, "old")
	rules := conf.Parse("mdev.conf", "", conf.ParseIDs("", ""))
	return New(path, rules, func() (*conf.Config, error) { return rules, nil }, func(*conf.Config) {}, hotplugtest.NewLog(t).Logger)
}

// TestWatchMissing begins where not even the directory exists.
func TestWatchMissing(t *testing.T) {
	t.Parallel()
	w := &watched{t: t, dir: filepath.Join(t.TempDir(), "a/b/c"), log: hotplugtest.NewLog(t)}
	w.watch()
	w.write("etc/mdev.conf", "new")
	w.wantAll("new")
}

// TestWatchOverflow shows that a change is noticed where inotify dropped events.
func TestWatchOverflow(t *testing.T) {
	t.Parallel()
	w := watchConf(t)
	overflow := unix.InotifyEvent{Wd: -1, Mask: unix.IN_Q_OVERFLOW}
	if !w.isRelevant(inotifyBytes(overflow)) {
		t.Error("an overflow is not relevant")
	}
	if w.isRelevant(inotifyBytes(unix.InotifyEvent{Wd: 1 << 20, Mask: unix.IN_DELETE_SELF})) {
		t.Error("an event of a watch that was removed is relevant")
	}
	if w.isRelevant(nil) {
		t.Error("no event is relevant")
	}
}

// TestWatchLeavesNothing shows that the watches of former directories are removed, and that changed is not
// called after close.
func TestWatchLeavesNothing(t *testing.T) {
	t.Parallel()
	w := watchConf(t)
	before := len(w.inotifyWatches())
	for range 3 {
		w.rename("etc", "x")
		w.want("-")
		w.write("x/mdev.conf", "new")
		w.rename("x", "etc")
		w.want("new")
		w.link("../y", "etc/link")
		w.rename("etc/link", "etc/mdev.conf")
		w.want("-")
		w.remove("etc/mdev.conf")
		w.write("etc/mdev.conf", "again")
		w.want("again")
	}
	hotplugtest.Eventually(t, "as many watches as before", func() bool { return len(w.inotifyWatches()) == before })
	w.close()
	w.write("etc/mdev.conf", "late")
	pause()
	w.want("again")
}

// TestWatchRefused shows that a watch which cannot be added is logged once.
func TestWatchRefused(t *testing.T) {
	t.Parallel()
	w := watchConf(t)
	w.close()
	hotplugtest.Eventually(t, "the end", func() bool { return w.conn.Control(func(uintptr) {}) != nil })
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	hotplugtest.Must(t, err)
	defer unix.Close(fd)
	for range 2 {
		if w.add(uintptr(fd), w.dir, "", 0) { // no events: EINVAL
			t.Error("it was not refused")
		}
	}
	if lines := w.log.Lines(); len(lines) != 1 || !strings.Contains(lines[0], "may not be noticed") {
		t.Errorf("logged %q", lines)
	}
}

func inotifyBytes(e unix.InotifyEvent) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&e)), unix.SizeofInotifyEvent)
}

// inotifyWatches returns the kernel's list of watches.
func (w *watched) inotifyWatches() (lines []string) {
	w.t.Helper()
	hotplugtest.Must(w.t, w.conn.Control(func(fd uintptr) {
		for line := range strings.Lines(hotplugtest.Contents(w.t, "/proc/self/fdinfo/"+strconv.Itoa(int(fd)))) {
			if strings.HasPrefix(line, "inotify ") {
				lines = append(lines, line)
			}
		}
	}))
	return lines
}
