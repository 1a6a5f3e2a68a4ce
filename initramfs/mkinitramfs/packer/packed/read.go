package packed

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os/exec"

	"github.com/klauspost/compress/zstd"
)

// Segment is a part of an image that the kernel unpacks by itself: an archive as it
// is, or a compressed stream of archives.
type Segment struct {
	Format string // "cpio" for an archive as it is
	Offset int64  // where it begins in the image
}

// Reader takes an image apart.
type Reader struct {
	from *counter
	all  *bufio.Reader
}

// NewReader returns a Reader of an image.
func NewReader(from io.Reader) *Reader {
	c := &counter{from: from}
	return &Reader{from: c, all: bufio.NewReaderSize(c, 64<<10)}
}

// ErrUnknown is the error for bytes that no kernel would unpack.
var ErrUnknown = errors.New("neither a cpio archive nor of a known compression")

// Each calls f with every segment, in order, and its bytes as they unpack. f takes
// from them what it wants; of a segment "cpio" it has to take one whole archive.
func (r *Reader) Each(f func(s Segment, unpacked *bufio.Reader) error) error {
	for {
		if err := r.skipZeros(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		s := Segment{Offset: r.offset()}
		head, _ := r.all.Peek(6)
		if s.Format = Format(head); s.Format == "" {
			return fmt.Errorf("at byte %d: %w", s.Offset, ErrUnknown)
		}
		if err := r.segment(s, f); err != nil {
			return fmt.Errorf("the %s at byte %d: %w", s.Format, s.Offset, err)
		}
	}
}

func (r *Reader) segment(s Segment, f func(Segment, *bufio.Reader) error) error {
	if s.Format == "cpio" {
		return f(s, r.all)
	}
	stream, err := decompress(s.Format, r.all)
	if err != nil {
		return err
	}
	unpacked := bufio.NewReaderSize(stream, 64<<10)
	err = f(s, unpacked)
	if err == nil {
		// To its end, where the next segment begins and the checksum is.
		_, err = io.Copy(io.Discard, unpacked)
	}
	return cmp.Or(err, stream.Close())
}

// offset returns where in the image the next byte is.
func (r *Reader) offset() int64 { return r.from.n - int64(r.all.Buffered()) }

// skipZeros goes over the padding between segments.
func (r *Reader) skipZeros() error {
	for {
		b, err := r.all.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return r.all.UnreadByte()
		}
	}
}

type counter struct {
	from io.Reader
	n    int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.n += int64(n)
	return n, err
}

// magics are those that the kernel tells its decompressors by (lib/decompress.c).
var magics = []struct{ magic, format string }{
	{"070701", "cpio"}, {"070702", "cpio"},
	{"\x1f\x8b", "gzip"}, {"\x1f\x9e", "gzip"},
	{"\x28\xb5\x2f\xfd", "zstd"},
	{"\xfd7zXZ\x00", "xz"},
	{"BZh", "bzip2"},
	{"\x02\x21\x4c\x18", "lz4"},
	{"\x5d\x00\x00", "lzma"},
	{"\x89LZO\x00", "lzo"},
}

// Format returns what the first bytes, six or more, of a file say of its format, or
// "".
func Format(head []byte) string {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.format
		}
	}
	return ""
}

// Unpack returns what the bytes are when they are decompressed, or the bytes as they
// are where they have none of the known formats.
func Unpack(data []byte) ([]byte, error) {
	format := Format(data)
	if format == "" || format == "cpio" {
		return data, nil
	}
	stream, err := decompress(format, bufio.NewReader(bytes.NewReader(data)))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(stream)
	return text, cmp.Or(err, stream.Close())
}

// decompress returns a reader of one compressed stream that takes from its source
// what the stream holds and no more. Of bzip2, lzma and lzo it takes all.
func decompress(format string, from *bufio.Reader) (io.ReadCloser, error) {
	switch format {
	case "gzip":
		z, err := gzip.NewReader(from)
		if err != nil {
			return nil, err
		}
		z.Multistream(false) // the kernel takes one member at a time, too
		return z, nil
	case "zstd":
		z, err := zstd.NewReader(&frame{from: from}, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case "xz":
		return filter(&xzStream{from: from}, "xz", "-dc")
	case "lz4":
		return filter(&lz4Stream{from: from}, "lz4", "-dc")
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(from)), nil
	case "lzma":
		return filter(from, "xz", "--format=lzma", "-dc")
	case "lzo":
		return filter(from, "lzop", "-dc")
	}
	return nil, ErrUnknown
}

// filtered is the output of a program.
type filtered struct {
	io.ReadCloser
	cmd    *exec.Cmd
	stderr bytes.Buffer
	over   bool
}

func filter(from io.Reader, name string, args ...string) (io.ReadCloser, error) {
	p := &filtered{cmd: command(name, args...)}
	p.cmd.Stdin, p.cmd.Stderr = from, &p.stderr
	var err error
	if p.ReadCloser, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("the program %s is missing, which decompresses this: install it", name)
		}
		return nil, err
	}
	return p, nil
}

func (p *filtered) Read(b []byte) (int, error) {
	if p.over {
		return 0, io.EOF
	}
	n, err := p.ReadCloser.Read(b)
	if err == io.EOF {
		p.over = true
		if err := p.wait(); err != nil {
			return n, err
		}
	}
	return n, err
}

func (p *filtered) wait() error {
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", p.cmd.Path, err, bytes.TrimSpace(p.stderr.Bytes()))
	}
	return nil
}

// Close ends the program, if it has not come to its end.
func (p *filtered) Close() error {
	if p.over {
		return nil
	}
	p.over = true
	_ = p.ReadCloser.Close()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // that it was killed is no error here
	return nil
}
