package initramfs

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/uevent"
)

// sample has one of each kind, out of order.
func sample() []Entry {
	return []Entry{
		Symlink{Path: "sbin/hotplug", Target: "devspool"},
		File{Path: "sbin/devspool", Mode: 0o4755, UID: 1, GID: 2, Text: "binary"},
		Node{Path: "dev/sda", Mode: 0o660, GID: 6, Dev: uevent.Dev{Block: true, Major: 259, Minor: 0xfffff}},
		Node{Path: "dev/null", Mode: 0o666, Dev: uevent.Dev{Major: 1, Minor: 3}},
		Dir{Path: "root", Mode: 0o700, UID: 1000, GID: 1001},
		File{Path: "root/secret", Mode: 0o600, Text: "s\n"},
		File{Path: "root-file", Mode: 0o644, Text: ""},
	}
}

func pack(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Archive(&b, entries...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unpack(t testing.TB, archive []byte) []item {
	t.Helper()
	items, rest, err := readArchive(archive)
	if err != nil {
		t.Fatal(err)
	}
	if len(rest) != 0 {
		t.Fatalf("%d bytes after the trailer", len(rest))
	}
	return items
}

func paths(items []item) []string {
	var all []string
	for _, it := range items {
		all = append(all, it.path)
	}
	return all
}

func TestArchiveHoldsItsEntries(t *testing.T) {
	items := unpack(t, pack(t, sample()...))
	want := []item{
		{record: record{path: "dev", kind: typeDir, mode: 0o755}},
		{record: record{path: "dev/null", kind: typeChar, mode: 0o666, major: 1, minor: 3}},
		{record: record{path: "dev/sda", kind: typeBlock, mode: 0o660, gid: 6, major: 259, minor: 0xfffff}},
		{record: record{path: "root", kind: typeDir, mode: 0o700, uid: 1000, gid: 1001}},
		{record: record{path: "root-file", kind: typeFile, mode: 0o644}},
		{record: record{path: "root/secret", kind: typeFile, mode: 0o600}, data: "s\n"},
		{record: record{path: "sbin", kind: typeDir, mode: 0o755}},
		{record: record{path: "sbin/devspool", kind: typeFile, mode: 0o4755, uid: 1, gid: 2}, data: "binary"},
		{record: record{path: "sbin/hotplug", kind: typeSymlink, mode: 0o777}, data: "devspool"},
	}
	for i := range want {
		want[i].inode, want[i].links = uint32(i+1), 1
	}
	if !slices.Equal(items, want) {
		t.Errorf("read back\n%+v\nwant\n%+v", items, want)
	}
}

// The sample as the C program sees it, which shares no line with ours.
const listing = `drwxr-xr-x   1 0        0               0 Jan  1  1970 dev
crw-rw-rw-   1 0        0          1,   3 Jan  1  1970 dev/null
brw-rw----   1 0        6        259, 1048575 Jan  1  1970 dev/sda
drwx------   1 1000     1001            0 Jan  1  1970 root
-rw-r--r--   1 0        0               0 Jan  1  1970 root-file
-rw-------   1 0        0               2 Jan  1  1970 root/secret
drwxr-xr-x   1 0        0               0 Jan  1  1970 sbin
-rwsr-xr-x   1 1        2               6 Jan  1  1970 sbin/devspool
lrwxrwxrwx   1 0        0               8 Jan  1  1970 sbin/hotplug -> devspool
`

func TestArchiveAsCpioReadsIt(t *testing.T) {
	needs(t, "the archive read by another program", "cpio")
	cmd := exec.Command("cpio", "-itv", "--numeric-uid-gid", "--quiet")
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	cmd.Stdin = bytes.NewReader(pack(t, sample()...))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("cpio: %v\n%s", err, &stderr)
	}
	if string(out) != listing {
		t.Errorf("cpio lists\n%s\nwant\n%s", out, listing)
	}
}

// needs skips a test that cannot run without a tool, loudly, or fails it where
// everything has to be tested.
func needs(t *testing.T, what, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err == nil {
		return
	}
	line := fmt.Sprintf("NOT TESTED: %s: %s", what, tool)
	if os.Getenv("DEVSPOOL_TEST_ALL") == "1" {
		t.Fatal(line)
	}
	t.Skip(line)
}

func TestArchiveIsReproducible(t *testing.T) {
	entries := sample()
	first := pack(t, entries...)
	slices.Reverse(entries)
	if !bytes.Equal(first, pack(t, entries...)) {
		t.Error("another order of the same entries makes other bytes")
	}
	source := filepath.Join(t.TempDir(), "source")
	for range 2 {
		if err := os.WriteFile(source, []byte("binary"), 0o600); err != nil {
			t.Fatal(err)
		}
		copied := pack(t, File{Path: "a", Mode: 0o755, Source: source})
		if said := pack(t, File{Path: "a", Mode: 0o755, Text: "binary"}); !bytes.Equal(copied, said) {
			t.Error("a copied file and one with the same text make other bytes")
		}
	}
}

func TestArchiveAlignment(t *testing.T) {
	for name := 1; name <= 9; name++ {
		for size := range 9 {
			f := File{Path: strings.Repeat("n", name), Mode: 0o644, Text: strings.Repeat("d", size)}
			archive := pack(t, f, Symlink{Path: "zz", Target: strings.Repeat("t", size+1)})
			if len(archive)%4 != 0 {
				t.Errorf("name of %d, body of %d: archive of %d bytes", name, size, len(archive))
			}
			items := unpack(t, archive)
			if len(items) != 2 || items[0].path != f.Path || items[0].data != f.Text {
				t.Errorf("name of %d, body of %d: %+v", name, size, items)
			}
		}
	}
}

func TestArchiveLongNames(t *testing.T) {
	long := strings.Repeat("d/", 2047) + "f" // 4095 bytes and a NUL
	items := unpack(t, pack(t, File{Path: long, Mode: 0o644, Text: "x"}))
	if len(items) != 2048 || items[2047].path != long || items[2047].data != "x" {
		t.Errorf("%d entries", len(items))
	}
}

func TestArchiveBigFile(t *testing.T) {
	const size = 20<<20 + 1
	source := sparse(t, size)
	items := unpack(t, pack(t, File{Path: "big", Mode: 0o644, Source: source}, File{Path: "c", Mode: 0o644, Text: "after"}))
	if len(items) != 2 || len(items[0].data) != size || items[1].data != "after" {
		t.Errorf("%d entries", len(items))
	}
}

// sparse makes a file that is nothing but its size.
func sparse(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sparse")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestArchiveRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(path string) Entry { return File{Path: path, Mode: 0o644} }
	tests := map[string]struct {
		entries []Entry
		want    error
	}{
		"empty path":        {[]Entry{file("")}, ErrPath},
		"root":              {[]Entry{file(".")}, ErrPath},
		"absolute":          {[]Entry{file("/a")}, ErrPath},
		"upwards":           {[]Entry{file("a/../b")}, ErrPath},
		"dots at the end":   {[]Entry{file("a/..")}, ErrPath},
		"slash at the end":  {[]Entry{Dir{Path: "a/", Mode: 0o755}}, ErrPath},
		"doubled slash":     {[]Entry{file("a//b")}, ErrPath},
		"NUL":               {[]Entry{file("a\x00b")}, ErrPath},
		"the trailer":       {[]Entry{file(trailer)}, ErrPath},
		"too long":          {[]Entry{file(strings.Repeat("n", 4096))}, ErrPath},
		"twice":             {[]Entry{file("a"), Dir{Path: "a", Mode: 0o755}}, ErrDuplicate},
		"below a file":      {[]Entry{file("a/b/c"), file("a/b")}, ErrParent},
		"below a link":      {[]Entry{file("a/b"), Symlink{Path: "a", Target: "c"}}, ErrParent},
		"a file type":       {[]Entry{Dir{Path: "a", Mode: 0o40755}}, ErrMode},
		"node 0:0":          {[]Entry{Node{Path: "a"}}, ErrNumbers},
		"major":             {[]Entry{Node{Path: "a", Dev: uevent.Dev{Major: 4096}}}, ErrNumbers},
		"minor":             {[]Entry{Node{Path: "a", Dev: uevent.Dev{Minor: 1 << 20}}}, ErrNumbers},
		"link to nothing":   {[]Entry{Symlink{Path: "a"}}, ErrTarget},
		"link to NUL":       {[]Entry{Symlink{Path: "a", Target: "\x00"}}, ErrTarget},
		"link to too much":  {[]Entry{Symlink{Path: "a", Target: strings.Repeat("t", 4097)}}, ErrTarget},
		"source is missing": {[]Entry{File{Path: "a", Source: filepath.Join(dir, "none")}}, os.ErrNotExist},
		"4 GiB":             {[]Entry{File{Path: "a", Source: sparse(t, math.MaxUint32+1)}}, ErrTooBig},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := Archive(io.Discard, test.entries...); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
	if err := Archive(io.Discard, File{Path: "a", Source: dir}); err == nil {
		t.Error("a directory was taken for a file")
	}
}

// flawed fails after some bytes.
type flawed struct{ left int }

var errFull = errors.New("full")

func (f *flawed) Write(p []byte) (int, error) {
	if len(p) > f.left {
		return 0, errFull
	}
	f.left -= len(p)
	return len(p), nil
}

func TestErrorsOfTheWriterShow(t *testing.T) {
	for _, left := range []int{0, 5000, 9000} {
		big := File{Path: "big", Mode: 0o644, Text: strings.Repeat("x", 10000)}
		if err := Archive(&flawed{left}, big); !errors.Is(err, errFull) {
			t.Errorf("Archive after %d bytes: %v", left, err)
		}
		if err := Join(&flawed{left}, strings.NewReader(big.Text)); !errors.Is(err, errFull) {
			t.Errorf("Join after %d bytes: %v", left, err)
		}
	}
	if err := Image(&flawed{0}); !errors.Is(err, errFull) {
		t.Errorf("Image: %v", err)
	}
}

func TestImageHoldsNullAndConsole(t *testing.T) {
	var first, second bytes.Buffer
	for _, w := range []io.Writer{&first, &second} {
		if err := Image(w, File{Path: "init", Mode: 0o755, Text: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two images of the same table differ")
	}
	items := unpack(t, gunzip(t, &first))
	want := map[string]record{
		"dev/null":    {path: "dev/null", kind: typeChar, mode: 0o666, major: 1, minor: 3},
		"dev/console": {path: "dev/console", kind: typeChar, mode: 0o600, major: 5, minor: 1},
	}
	for _, it := range items {
		if it.record == want[it.path] {
			delete(want, it.path)
		}
	}
	if len(want) > 0 {
		t.Errorf("%+v lacks %+v", items, want)
	}
	if err := Image(io.Discard, File{Path: "dev/null", Mode: 0o666}); !errors.Is(err, ErrDuplicate) {
		t.Errorf("an image with a regular /dev/null: %v", err)
	}
}

func gunzip(t *testing.T, r io.Reader) []byte {
	t.Helper()
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	if !z.ModTime.IsZero() || z.Name != "" {
		t.Errorf("gzip header says %v %q", z.ModTime, z.Name)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestJoinKeepsImagesApart(t *testing.T) {
	one := pack(t, File{Path: "one", Mode: 0o644, Text: "1"})
	two := pack(t, File{Path: "two", Mode: 0o644, Text: "2"})
	for extra := range 4 {
		var joined bytes.Buffer
		padded := append(slices.Clone(one), make([]byte, extra)...)
		if err := Join(&joined, bytes.NewReader(padded), bytes.NewReader(two)); err != nil {
			t.Fatal(err)
		}
		items, rest, err := readArchive(joined.Bytes())
		if err != nil || !slices.Equal(paths(items), []string{"one"}) {
			t.Fatalf("first archive: %v, %v", paths(items), err)
		}
		next := bytes.TrimLeft(rest, "\x00")
		if at := joined.Len() - len(next); at%4 != 0 {
			t.Errorf("second archive begins at %d", at)
		}
		if items, _, err := readArchive(next); err != nil || !slices.Equal(paths(items), []string{"two"}) {
			t.Errorf("second archive: %v, %v", paths(items), err)
		}
	}
}

func TestEntriesAsLines(t *testing.T) {
	entries := append(sample(), File{Path: "init", Mode: 0o755, Source: "/bin/true"})
	var lines []string
	for _, e := range entries {
		lines = append(lines, e.String())
	}
	want := []string{
		"link sbin/hotplug -> devspool 0:0",
		"file sbin/devspool 4755 1:2",
		"node dev/sda b259:1048575 0660 0:6",
		"node dev/null c1:3 0666 0:0",
		"dir root 0700 1000:1001",
		"file root/secret 0600 0:0",
		"file root-file 0644 0:0",
		"file init 0755 0:0 from /bin/true",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("lines\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// What goes in comes out, whatever it is, or is refused whole.
func FuzzArchive(f *testing.F) {
	f.Add("a/b", "text", uint32(0o644), "l", "target", uint32(8), uint32(1), true)
	f.Add("../a", "", uint32(0o7777), "TRAILER!!!", "\x00", uint32(0), uint32(0), false)
	f.Add("a", "070701", uint32(0), "a/b", "..", uint32(4095), uint32(1<<20-1), false)
	f.Fuzz(func(t *testing.T, path, text string, mode uint32, link, target string, major, minor uint32, block bool) {
		entries := []Entry{
			File{Path: path, Mode: mode, UID: major, GID: minor, Text: text},
			Symlink{Path: link, Target: target},
			Node{Path: "fuzzed", Mode: mode & 0o777, Dev: uevent.Dev{Block: block, Major: major, Minor: minor}},
		}
		var b bytes.Buffer
		if Archive(&b, entries...) != nil {
			return
		}
		got := map[string]item{}
		last := ""
		for _, it := range unpack(t, b.Bytes()) {
			if it.path <= last {
				t.Fatalf("%q after %q", it.path, last)
			}
			last = it.path
			got[it.path] = it
		}
		for i, data := range []string{text, target, ""} {
			want := entries[i].record()
			if it := got[want.path]; it.record != want || it.data != data {
				t.Errorf("%v came out as %+v", entries[i], it)
			}
		}
	})
}
