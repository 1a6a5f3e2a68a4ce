// Package packed writes boot images compressed, and reads them whatever they are
// compressed with. It never looks at what the archives hold.
package packed

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// Formats are the names that NewWriter knows.
var Formats = []string{"zstd", "gzip", "xz", "none"}

// NewWriter returns a writer whose bytes go to w, compressed so that every kernel
// that knows the format unpacks them. Equal bytes become equal bytes, as long as
// the same release of the compressor makes them. Close ends the format, and leaves
// w open.
func NewWriter(w io.Writer, format string) (io.WriteCloser, error) {
	switch format {
	case "zstd":
		// One goroutine, so that blocks are cut in one way only. The window is what
		// the kernel sets memory aside for while it unpacks.
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBestCompression),
			zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
	case "gzip":
		return gzip.NewWriterLevel(w, gzip.BestCompression)
	case "xz":
		// The kernel has no other checksum, and --threads=1 makes one block.
		return pipe(w, "xz", "--check=crc32", "--threads=1", "-9", "-c")
	case "none":
		return nopCloser{w}, nil
	}
	return nil, fmt.Errorf("no compression is called %q: it is one of %q", format, Formats)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// program is a compressor that runs beside us.
type program struct {
	io.WriteCloser
	cmd    *exec.Cmd
	stderr bytes.Buffer
}

func pipe(w io.Writer, name string, args ...string) (io.WriteCloser, error) {
	p := &program{cmd: command(name, args...)}
	p.cmd.Stdout, p.cmd.Stderr = w, &p.stderr
	var err error
	if p.WriteCloser, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, missing(name, err)
	}
	return p, nil
}

// Close ends the input, and waits for the program.
func (p *program) Close() error {
	err := p.WriteCloser.Close()
	if ended := p.cmd.Wait(); ended != nil {
		return fmt.Errorf("%s: %w: %s", p.cmd.Path, ended, bytes.TrimSpace(p.stderr.Bytes()))
	}
	return err
}

// command returns a program that no variable of the environment steers: XZ_OPT and
// its like would change the bytes.
func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = slices.DeleteFunc(cmd.Environ(), func(v string) bool {
		return bytes.HasPrefix([]byte(v), []byte("XZ_")) || bytes.HasPrefix([]byte(v), []byte("LZ4_"))
	})
	return cmd
}

// missing adds the remedy to the error of a program that does not start.
func missing(name string, err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("the program %s is missing: install it, or choose another --compress", name)
	}
	return err
}
