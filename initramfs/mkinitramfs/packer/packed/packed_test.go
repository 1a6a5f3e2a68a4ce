package packed

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"devspool/initramfs"
)

// text is bytes that compress, in part.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for b.Len() < n {
		if r.IntN(3) == 0 {
			fmt.Fprintf(&b, "%x", r.Uint64())
		} else {
			b.WriteString(strings.Repeat("module ", r.IntN(40)))
		}
	}
	return b.Bytes()[:n]
}

func compress(t testing.TB, format string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, format)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// by compresses with another program.
func by(t testing.TB, data []byte, name string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		line := "NOT TESTED: images by another program: " + name
		if os.Getenv("DEVSPOOL_TEST_ALL") == "1" {
			t.Fatal(line)
		}
		t.Skip(line)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return out
}

// segments reads an image, and returns its formats and all that it unpacks to.
func segments(t testing.TB, image []byte) (formats []string, all []byte, err error) {
	t.Helper()
	err = NewReader(bytes.NewReader(image)).Each(func(s Segment, unpacked *bufio.Reader) error {
		formats = append(formats, s.Format)
		if s.Format == "cpio" {
			r := initramfs.NewReader(unpacked)
			for {
				if _, err := r.Next(); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
			}
		}
		b, err := io.ReadAll(unpacked)
		all = append(all, b...)
		return err
	})
	return formats, all, err
}

// TestStreamsBehindEachOther reads an image of an archive and every compression that
// ends by itself, ours and that of other programs, one behind the other.
func TestStreamsBehindEachOther(t *testing.T) {
	big, small := text(3<<20), text(100)
	archive := bytes.Buffer{}
	if err := initramfs.Archive(&archive, initramfs.File{Path: "early", Mode: 0o644, Text: "x"}); err != nil {
		t.Fatal(err)
	}
	var image, want []byte
	var formats []string
	add := func(format string, packed, plain []byte) {
		for len(image)%4 != 0 {
			image = append(image, 0)
		}
		image, want = append(image, packed...), append(want, plain...)
		formats = append(formats, format)
	}
	add("cpio", archive.Bytes(), nil)
	for _, plain := range [][]byte{big, small, nil} {
		for _, format := range []string{"gzip", "zstd", "xz"} {
			add(format, compress(t, format, plain), plain)
		}
		add("zstd", by(t, plain, "zstd", "-19", "-c"), plain)
		add("zstd", by(t, plain, "zstd", "-1", "--no-check", "-c"), plain)
		add("gzip", by(t, plain, "gzip", "-c"), plain)
		add("xz", by(t, plain, "xz", "--check=sha256", "--block-size=500000", "-T2", "-c"), plain)
		add("xz", by(t, plain, "xz", "--check=crc32", "--x86", "--lzma2=dict=1MiB", "-c"), plain)
		add("cpio", archive.Bytes(), nil)
	}
	add("lz4", by(t, big, "lz4", "-l", "-c"), big)
	image = append(image, 0, 0, 0, 0)
	add("cpio", archive.Bytes(), nil)
	add("bzip2", by(t, small, "bzip2", "-c"), small)
	got, all, err := segments(t, image)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(formats) {
		t.Errorf("segments %q, want %q", got, formats)
	}
	if !bytes.Equal(all, want) {
		t.Errorf("%d bytes unpacked, not the %d that were packed", len(all), len(want))
	}
}

// TestOtherProgramsReadIt gives what NewWriter makes to the compressions' own programs.
func TestOtherProgramsReadIt(t *testing.T) {
	plain := text(1 << 20)
	for format, program := range map[string]string{"zstd": "zstd", "gzip": "gzip", "xz": "xz"} {
		packed := compress(t, format, plain)
		if !bytes.Equal(packed, compress(t, format, plain)) {
			t.Errorf("%s: other bytes the second time", format)
		}
		if !bytes.Equal(by(t, packed, program, "-dc"), plain) {
			t.Errorf("%s unpacks something else", program)
		}
	}
}

func TestCutOff(t *testing.T) {
	plain := text(200_000)
	for _, format := range []string{"zstd", "gzip", "xz"} {
		packed := compress(t, format, plain)
		for _, n := range []int{1, 3, 7, 20, len(packed) / 2, len(packed) - 1} {
			if _, _, err := segments(t, packed[:n]); err == nil {
				t.Errorf("%s: no error for the first %d of %d bytes", format, n, len(packed))
			}
		}
	}
}

func TestUnknown(t *testing.T) {
	if _, _, err := segments(t, []byte("\x00\x00no image")); err == nil || !strings.Contains(err.Error(), "at byte 2") {
		t.Errorf("%v", err)
	}
	if _, err := NewWriter(io.Discard, "rar"); err == nil {
		t.Error("no error for a format that nobody knows")
	}
}

// FuzzStreams follows the structure of streams that may be broken. A whole one is
// given to its last byte, and nothing behind it.
func FuzzStreams(f *testing.F) {
	f.Add(by(f, text(3000), "xz", "-c"))
	f.Add(by(f, text(3000), "zstd", "-c"))
	f.Add(by(f, text(3000), "lz4", "-l", "-c"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, open := range []func(*bufio.Reader) io.Reader{
			func(r *bufio.Reader) io.Reader { return &frame{from: r} },
			func(r *bufio.Reader) io.Reader { return &xzStream{from: r} },
			func(r *bufio.Reader) io.Reader { return &lz4Stream{from: r} },
		} {
			from := bufio.NewReader(bytes.NewReader(b))
			given, _ := io.ReadAll(open(from))
			if !bytes.HasPrefix(b, given) {
				t.Fatalf("gave %q, which the stream does not begin with", given)
			}
		}
	})
}
