package kerneltest

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Manner is how a BadFile answers those who read it.
type Manner int

// The manners.
const (
	Answers Manner = iota // with what it holds
	Hangs                 // not at all, until it has another manner
	Fails                 // with EIO
)

// BadFile is a file that can hang or fail like a bad disk. It is the only one of a file
// system of its own, which this process serves (FUSE). For a disk that does the same it
// is what a loop device stands on.
type BadFile struct {
	Path string

	content []byte
	fd      int // of /dev/fuse

	mu      sync.Mutex
	manner  Manner
	reads   int
	waiting []fuseRead
}

// fuseRead is a read that is to be answered.
type fuseRead struct{ unique, offset, size uint64 }

// NewBadFile makes a file that holds content, until the end of the test. It answers at first.
func NewBadFile(tb testing.TB, content []byte) *BadFile {
	tb.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		// The /dev of a test holds few nodes.
		node := filepath.Join(tb.TempDir(), "fuse")
		if err := unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 229))); err != nil {
			tb.Fatal(err)
		}
		if fd, err = unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			Cannot(tb, "fuse: %v", err)
		}
	}
	dir := tb.TempDir()
	f := &BadFile{Path: filepath.Join(dir, "file"), content: content, fd: fd}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)
	if err := unix.Mount("badfile", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		unix.Close(fd)
		Cannot(tb, "mount of a fuse file system: %v", err)
	}
	go f.serve() // before the mount there is nothing to read
	tb.Cleanup(func() {
		f.Be(Fails)
		_ = unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH)
		_ = unix.Close(fd)
	})
	return f
}

// Be changes the manner. Reads that hang are answered in the new one.
func (f *BadFile) Be(m Manner) {
	f.mu.Lock()
	f.manner = m
	waiting := f.waiting
	f.waiting = nil
	f.mu.Unlock()
	for _, r := range waiting {
		f.read(r)
	}
}

// Reads returns how many reads there were so far.
func (f *BadFile) Reads() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads
}

// The requests that are answered otherwise than by ENOSYS (linux/fuse.h).
const (
	fuseLookup  = 1
	fuseForget  = 2
	fuseGetattr = 3
	fuseOpen    = 14
	fuseRd      = 15
	fuseRelease = 18
	fuseInit    = 26
)

const (
	fuseInHeader  = 40
	fuseOutHeader = 16
	fuseRoot      = 1
	fuseFile      = 2
	fuseForever   = 1 << 30 // seconds
)

// serve answers the kernel until the file system is unmounted.
func (f *BadFile) serve() {
	in := make([]byte, 1<<20)
	for {
		n, err := unix.Read(f.fd, in)
		if err == unix.EINTR || err == unix.ENOENT {
			continue
		}
		if err != nil || n < fuseInHeader {
			return
		}
		f.answer(in[:n])
	}
}

var ne = binary.NativeEndian

func (f *BadFile) answer(in []byte) {
	opcode, unique, node, body := ne.Uint32(in[4:]), ne.Uint64(in[8:]), ne.Uint64(in[16:]), in[fuseInHeader:]
	switch opcode {
	case fuseInit:
		out := make([]byte, 64)
		ne.PutUint32(out, 7)
		ne.PutUint32(out[4:], 31)
		ne.PutUint32(out[8:], 1<<17)
		ne.PutUint32(out[20:], 1<<17) // max_write
		f.reply(unique, 0, out)
	case fuseLookup:
		if string(body) != "file\x00" {
			f.reply(unique, unix.ENOENT, nil)
			return
		}
		out := make([]byte, 40)
		ne.PutUint64(out, fuseFile)
		ne.PutUint64(out[16:], fuseForever)
		ne.PutUint64(out[24:], fuseForever)
		f.reply(unique, 0, append(out, f.attributes(fuseFile)...))
	case fuseGetattr:
		out := make([]byte, 16)
		ne.PutUint64(out, fuseForever)
		f.reply(unique, 0, append(out, f.attributes(node)...))
	case fuseOpen:
		f.reply(unique, 0, make([]byte, 16))
	case fuseRelease:
		f.reply(unique, 0, nil)
	case fuseRd:
		f.mu.Lock()
		f.reads++
		f.mu.Unlock()
		f.read(fuseRead{unique, ne.Uint64(body[8:]), uint64(ne.Uint32(body[16:]))})
	case fuseForget:
	default:
		f.reply(unique, unix.ENOSYS, nil)
	}
}

// attributes returns a struct fuse_attr.
func (f *BadFile) attributes(node uint64) []byte {
	out := make([]byte, 88)
	mode, size := uint32(unix.S_IFDIR|0o755), uint64(0)
	if node == fuseFile {
		mode, size = unix.S_IFREG|0o644, uint64(len(f.content))
	}
	ne.PutUint64(out, node)
	ne.PutUint64(out[8:], size)
	ne.PutUint64(out[16:], (size+511)/512)
	ne.PutUint32(out[60:], mode)
	ne.PutUint32(out[64:], 1) // nlink
	ne.PutUint32(out[80:], 4096)
	return out
}

func (f *BadFile) read(r fuseRead) {
	f.mu.Lock()
	m := f.manner
	if m == Hangs {
		f.waiting = append(f.waiting, r)
	}
	f.mu.Unlock()
	switch m {
	case Answers:
		rest := f.content[min(r.offset, uint64(len(f.content))):]
		f.reply(r.unique, 0, rest[:min(r.size, uint64(len(rest)))])
	case Fails:
		f.reply(r.unique, unix.EIO, nil)
	}
}

// reply answers a request. The kernel may have given it up: that is no failure.
func (f *BadFile) reply(unique uint64, errno unix.Errno, body []byte) {
	out := make([]byte, fuseOutHeader, fuseOutHeader+len(body))
	out = append(out, body...)
	ne.PutUint32(out, uint32(len(out)))
	ne.PutUint32(out[4:], uint32(-int32(errno)))
	ne.PutUint64(out[8:], unique)
	_, _ = unix.Write(f.fd, out)
}

// Image makes a file of the size by a line of shell in which $I is its path, and returns
// what it holds. Tool names the program without which it cannot.
func Image(tb testing.TB, size int64, tool, line string) []byte {
	tb.Helper()
	Need(tb, tool)
	path := filepath.Join(tb.TempDir(), "image")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		tb.Fatal(err)
	}
	Sh(tb, "I="+path+"; "+line)
	image, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return image
}
