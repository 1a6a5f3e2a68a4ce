package sys_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/sys"
)

// TestReadDir reads a directory that is longer than one read, whole.
func TestReadDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const many = 1500
	for i := range many {
		hotplugtest.Must(t, os.Mkdir(fmt.Sprintf("%s/a-name-that-is-long-enough-%d", dir, i), 0o755))
	}
	hotplugtest.WriteFile(t, filepath.Join(dir, "file"), "")
	if got := sys.ReadDir(dir); len(got) != many+1 || slices.Contains(got, ".") || slices.Contains(got, "..") {
		t.Errorf("%d names, want %d", len(got), many+1)
	}
	if got := sys.Subdirs(dir); len(got) != many || slices.Contains(got, "file") {
		t.Errorf("%d subdirectories, want %d", len(got), many)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	hotplugtest.Must(t, err)
	defer unix.Close(fd)
	for range 2 { // from the start each time
		if got := sys.List(fd); len(got) != many+1 {
			t.Errorf("%d names by the descriptor, want %d", len(got), many+1)
		}
	}
	_, err = unix.Seek(fd, 0, 0)
	hotplugtest.Must(t, err)
	some, buf := 0, make([]byte, 1024)
	for names := sys.ListSome(fd, buf); len(names) > 0; names = sys.ListSome(fd, buf) {
		some += len(names)
	}
	if some != many+1 {
		t.Errorf("%d names bit by bit, want %d", some, many+1)
	}
	if got := sys.ReadDir(filepath.Join(dir, "missing")); got != nil {
		t.Errorf("a missing directory has %q", got)
	}
}

// TestTryListRemoved shows that a directory which was removed is not an empty one.
func TestTryListRemoved(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "dir")
	hotplugtest.Must(t, os.Mkdir(dir, 0o755))
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	hotplugtest.Must(t, err)
	defer unix.Close(fd)
	if names, err := sys.TryList(fd); len(names) > 0 || err != nil {
		t.Errorf("empty: %q, error %v", names, err)
	}
	hotplugtest.Must(t, os.Remove(dir))
	if names, err := sys.TryList(fd); len(names) > 0 || err != unix.ENOENT {
		t.Errorf("removed: %q, error %v", names, err)
	}
}

// TestReadFile shows which files are read, and which refused.
func TestReadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const limit = 1 << 20
	for name, text := range map[string]string{"empty": "", "small": "text\n", "largest": strings.Repeat("x", limit)} {
		path := filepath.Join(dir, name)
		hotplugtest.WriteFile(t, path, text)
		if got, err := sys.ReadFile(path); got != text || err != nil {
			t.Errorf("%s: %d bytes, error %v", name, len(got), err)
		}
	}
	if got, err := sys.ReadFile("/dev/null"); got != "" || err != nil {
		t.Errorf("/dev/null: %q, error %v", got, err)
	}
	hotplugtest.WriteFile(t, filepath.Join(dir, "long"), strings.Repeat("x", limit+1))
	hotplugtest.Must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	for name, want := range map[string]string{
		"long": "longer than 1 MiB", "fifo": "not a regular file", ".": "not a regular file", "missing": "no such file",
	} {
		_, err := sys.ReadFile(filepath.Join(dir, name))
		if failure := new(os.PathError); !errors.As(err, &failure) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
	if _, err := sys.ReadFile(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// TestRealpath compares with the standard library.
func TestRealpath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hotplugtest.WriteFile(t, filepath.Join(dir, "a/b/file"), "")
	for name, text := range map[string]string{
		"relative": "a/b", "absolute": dir + "/a", "a/up": "..", "a/b/twice": "../../relative/file", "loop": "loop", "dangling": "nothing",
	} {
		hotplugtest.Must(t, os.Symlink(text, filepath.Join(dir, name)))
	}
	for _, name := range []string{
		"", "a/b/file", "relative/file", "absolute/b", "a/up/a/up/relative", "a/b/twice", "a//./b/../b/file", "loop", "dangling", "missing/x",
	} {
		path := dir + "/" + name
		want, wantErr := filepath.EvalSymlinks(path)
		got, err := sys.Realpath(path)
		if (err == nil) != (wantErr == nil) || err == nil && got != want {
			t.Errorf("%s: %q, error %v; want %q, %v", name, got, err, want, wantErr)
		}
	}
}

// TestLookPath shows where a program is searched for.
func TestLookPath(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	prog := hotplugtest.Script(t, filepath.Join(bin, "prog"), "#!/bin/sh\n")
	for _, c := range []struct{ name, path, want string }{
		{"prog", bin, prog},
		{"prog", "/nowhere:" + bin, prog},
		{"prog", "/nowhere", ""},
		{"prog", "", ""},
		{"./prog", "/nowhere", "./prog"},
		{"a/b", "/nowhere", "a/b"},
		{"", bin, ""},
	} {
		if got := sys.LookPath(c.name, []string{"PATH=" + c.path}); got != c.want {
			t.Errorf("LookPath(%q) in %q is %q, want %q", c.name, c.path, got, c.want)
		}
	}
	if got := sys.LookPath("sh", nil); !strings.HasSuffix(got, "/sh") {
		t.Errorf("without PATH, sh is %q", got)
	}
}

// TestOwnDirectory shows that a directory which others may enter is refused.
func TestOwnDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	hotplugtest.Must(t, err)
	defer unix.Close(at)
	for range 2 { // made, and there already
		fd, err := sys.OwnDirectory(at, "own")
		hotplugtest.Must(t, err)
		sys.CloseAll(&fd)
	}
	hotplugtest.Must(t, os.Chmod(filepath.Join(dir, "own"), 0o750))
	hotplugtest.Must(t, os.Symlink(t.TempDir(), filepath.Join(dir, "link")))
	for name, want := range map[string]error{"own": unix.EACCES, "link": unix.ENOTDIR} {
		if fd, err := sys.OwnDirectory(at, name); err != want || fd != sys.None {
			t.Errorf("%s: descriptor %d, error %v, want %v", name, fd, err, want)
		}
	}
}

// TestReadInotify reads events that the kernel writes.
func TestReadInotify(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	inotify, err := sys.NewInotify()
	hotplugtest.Must(t, err)
	defer unix.Close(inotify)
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	hotplugtest.Must(t, err)
	defer unix.Close(fd)
	watch, err := sys.WatchDirectory(inotify, fd, dir, unix.IN_CREATE|unix.IN_DELETE_SELF)
	hotplugtest.Must(t, err)
	var want []string
	for i := range 100 {
		name := strings.Repeat("x", i+1)
		hotplugtest.WriteFile(t, filepath.Join(dir, name), "")
		want = append(want, name)
	}
	var got []string
	buf := make([]byte, 1024) // less than all events take
	overflow, more := sys.ReadInotify(inotify, buf, func(e *unix.InotifyEvent, name []byte) {
		if e.Wd != watch {
			t.Errorf("an event of watch %d, not %d", e.Wd, watch)
		}
		got = append(got, string(name))
	})
	if overflow || more || !slices.Equal(got, want) {
		t.Errorf("names %q, overflow %v, more %v", got, overflow, more)
	}
}

// FuzzEachInotifyEvent shows that no event reaches past what was read.
func FuzzEachInotifyEvent(f *testing.F) {
	e := unix.InotifyEvent{Wd: 1, Mask: unix.IN_CREATE, Len: 16}
	head := unsafe.Slice((*byte)(unsafe.Pointer(&e)), unix.SizeofInotifyEvent)
	f.Add(append(slices.Clone(head), "name\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"...))
	f.Add(slices.Clone(head))
	f.Fuzz(func(t *testing.T, buf []byte) {
		size := 0
		count, _ := sys.EachInotifyEvent(buf, func(e *unix.InotifyEvent, name []byte) {
			size += unix.SizeofInotifyEvent + int(e.Len)
			if len(name) > int(e.Len) || strings.Contains(string(name), "\x00") {
				t.Errorf("a name of %d bytes in %d", len(name), e.Len)
			}
		})
		if size > len(buf) || count*unix.SizeofInotifyEvent > size {
			t.Errorf("%d events take %d bytes of %d", count, size, len(buf))
		}
	})
}
