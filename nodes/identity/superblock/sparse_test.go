package superblock

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

const goldenFile = "testdata/images.json.gz"

// pieceSize is the size of the pieces of which a sparse disk is made.
const pieceSize = 64

// sparse is a disk of which few pieces are not zero. Offsets are numbers of
// pieces.
type sparse struct {
	Size   int64
	Pieces map[int64][]byte
}

// ReadAt implements Reader.
func (s sparse) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), max(s.Size-off, 0)))
	clear(p)
	for at := off / pieceSize; at*pieceSize < off+int64(n); at++ {
		if piece := s.Pieces[at]; piece != nil {
			copy(p[at*pieceSize-off:n], piece)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// disk returns a disk that checks how it is read.
func (s sparse) disk(t testing.TB, block int) (*Disk, *counter) {
	c := &counter{t: t, r: s, size: s.Size, block: int64(block)}
	return &Disk{Contents: c, Size: s.Size, BlockSize: block}, c
}

// recorder keeps the pieces that are read and are not zero.
type recorder struct {
	Reader
	sparse
}

func (r recorder) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.Reader.ReadAt(p, off)
	for i := 0; i+pieceSize <= n; i += pieceSize {
		if !bytes.Equal(p[i:i+pieceSize], make([]byte, pieceSize)) {
			r.Pieces[(off+int64(i))/pieceSize] = slices.Clone(p[i : i+pieceSize])
		}
	}
	return n, err
}

// golden is an image as it was made once, and what is said about it.
type golden struct {
	Name string
	sparse
	Properties []string
}

func readGolden(t testing.TB) (all []golden) {
	t.Helper()
	f, err := os.Open(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(bufio.NewReader(z)); ; {
		var g golden
		if err := d.Decode(&g); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, g)
	}
}

// TestGolden probes images that were made by the tools once, without the tools.
func TestGolden(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	for _, g := range readGolden(t) {
		d, c := g.disk(t, 512)
		if got := probed(t, d); !slices.Equal(got, g.Properties) {
			t.Errorf("%s:\n%s\nis to be\n%s", g.Name, strings.Join(got, "\n"), strings.Join(g.Properties, "\n"))
		}
		c.check()
	}
}

// writeGolden writes the pieces of each image that are needed to tell what it is.
func writeGolden(t *testing.T) {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	for _, i := range images {
		if i.name == "noise" {
			continue
		}
		d := open(t, i.make(t), 512)
		r := recorder{d.Contents, sparse{d.Size, map[int64][]byte{}}}
		d.Contents = r
		properties := probed(t, d)
		for n, piece := range r.Pieces {
			delete(r.Pieces, n)
			d, _ := r.disk(t, 512)
			if got, err := Probe(d); err != nil || !slices.Equal(got.Properties, properties) {
				r.Pieces[n] = piece
			}
		}
		must(t, json.NewEncoder(z).Encode(golden{i.name, r.sparse, properties}))
	}
	must(t, z.Close())
	must(t, os.MkdirAll("testdata", 0o755))
	must(t, os.WriteFile(goldenFile, b.Bytes(), 0o644))
}

// faulty is a disk with an area that cannot be read. A read ends where it begins.
type faulty struct {
	Reader
	start, end int64
}

func (f faulty) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) <= f.start || off >= f.end {
		return f.Reader.ReadAt(p, off)
	}
	if off >= f.start {
		return 0, syscall.EIO
	}
	n, err := f.Reader.ReadAt(p[:f.start-off], off)
	if err == nil {
		err = syscall.EIO
	}
	return n, err
}

// find returns a golden image.
func find(t *testing.T, name string) golden {
	t.Helper()
	for _, g := range readGolden(t) {
		if g.Name == name {
			return g
		}
	}
	t.Fatalf("no image %q", name)
	return golden{}
}

// TestReadErrors shows that blocks which cannot be read cost only what lies in
// them.
func TestReadErrors(t *testing.T) {
	for _, c := range []struct {
		image      string
		start, end int64
		found      bool
	}{
		{"ext4", 8192, 12288, true},
		{"ext4", 4096, 65536, true},
		{"ext4", 65536, 20 << 20, true},
		{"ext4", 2048, 20 << 20, true},
		{"ext4", 0, 512, false}, // a page is lost
		{"ext4", 0, 4096, false},
		{"ext4", 0, 20 << 20, false},
		{"btrfs", 0, 4096, true},
		{"btrfs", 4096, 4608, true},
		{"btrfs", 65536, 69632, false},
		{"iso", 0, 32768, true},
		{"md 1.0", 0, 4096, true},
		{"md 1.0", 20963328, 20 << 20, false},
		{"md 1.2", 19 << 20, 20 << 20, true},
		{"gpt backup", 512, 1024, true},
		{"gpt", 0, 20 << 20, false},
		{"ntfs", 4096, 20 << 20, false},
		{"fat32", 65536, 80 << 20, true}, // but for the label
	} {
		g := find(t, c.image)
		d, count := g.disk(t, 512)
		d.Contents = faulty{d.Contents, c.start, c.end}
		r, err := Probe(d)
		count.check()
		if found := r.Properties != nil; found != c.found {
			t.Errorf("%s without bytes %d to %d: found is %v", c.image, c.start, c.end, found)
		}
		if err != syscall.EIO {
			t.Errorf("%s without bytes %d to %d: the error is %v", c.image, c.start, c.end, err)
		}
	}
}

// TestTruncated cuts each image at many places. Nothing is to be read outside of
// the disk, and nothing is to go wrong.
func TestTruncated(t *testing.T) {
	for _, g := range readGolden(t) {
		for _, size := range []int64{-1 << 63, -1, 0, 1, 511, 512, 1023, 1024, 1025, 4095, 4096, 4608, 8192, 32 << 10, 35 << 10,
			64 << 10, 65<<10 + 7, 68 << 10, 100 << 10, 129 << 10, 257 << 10, 1440 << 10, 1441 << 10, 1<<63 - 1, 1 << 62} {
			d, c := g.disk(t, 512)
			d.Size = size
			c.size = max(size, 0)
			Probe(d)
			Entry(d, &Partition{Number: 1, Start: 2048, Size: 2048})
			if c.reads > 2*maxReads || c.bytes > 2*maxBytes {
				t.Errorf("%s: %d reads, %d bytes", g.Name, c.reads, c.bytes)
			}
		}
	}
}

// TestBlockSizes shows that any size of a block is read in whole blocks, and that
// what lies on the disk does not change.
func TestBlockSizes(t *testing.T) {
	for _, g := range readGolden(t) {
		for _, block := range []int{0, 1, 500, 1024, 2048, 4096, 16384, 65536, 1 << 20, -512} {
			d, c := g.disk(t, 512)
			d.BlockSize = block
			if block >= 512 && block <= 65536 && block&(block-1) == 0 {
				c.block = int64(block)
			}
			r, err := Probe(d)
			if c.check(); block == 65536 {
				continue // the limits may be reached
			}
			if err != nil {
				t.Errorf("%s, blocks of %d: %v", g.Name, block, err)
			}
			if g.Size%c.block == 0 && !strings.Contains(g.Name, "gpt") && r.Get("ID_FS_TYPE") != typeOf(g.Properties) {
				t.Errorf("%s, blocks of %d: the type is %q", g.Name, block, r.Type)
			}
		}
	}
}

func typeOf(properties []string) string {
	return (&Result{Properties: properties}).Get("ID_FS_TYPE")
}

// FuzzProbe probes disks that are made of records: a number of pieces to skip, and
// a piece.
func FuzzProbe(f *testing.F) {
	for _, g := range readGolden(f) {
		f.Add(g.Size, g.records())
	}
	f.Fuzz(func(t *testing.T, size int64, records []byte) {
		s := fromRecords(size, records)
		for _, block := range []int{512, 4096} {
			d, c := s.disk(t, block)
			d.Size &^= int64(block - 1)
			r, _ := Probe(d)
			c.check()
			checkResult(t, r)
			d, c = s.disk(t, block)
			d.Size &^= int64(block - 1)
			r, _ = Entry(d, &Partition{Number: 20, Start: 2048, Size: 2048, Disk: "8:0"})
			c.check()
			checkResult(t, r)
		}
	})
}

// checkResult checks that properties can stand in an event.
func checkResult(t *testing.T, r *Result) {
	for _, property := range r.Properties {
		key, value, ok := strings.Cut(property, "=")
		if !ok || !strings.HasPrefix(key, "ID_") || len(value) > maxValue || strings.ContainsAny(value, "\x00\n\x1b") {
			t.Errorf("property %q", property)
		}
	}
	if (r.Type == "") != (r.Usage == "") || r.Ambivalent && r.Properties != nil {
		t.Errorf("a result that contradicts itself: %+v", *r)
	}
}

// records returns a sparse disk as it is fuzzed.
func (s sparse) records() (b []byte) {
	var numbers []int64
	for n := range s.Pieces {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	last := int64(0)
	for _, n := range numbers {
		b = le.AppendUint32(b, uint32(n-last))
		b = append(b, s.Pieces[n]...)
		last = n
	}
	return b
}

func fromRecords(size int64, b []byte) sparse {
	s := sparse{max(size, 0), map[int64][]byte{}}
	at := int64(0)
	for len(b) >= 4+pieceSize {
		at += int64(le.Uint32(b))
		s.Pieces[at] = b[4 : 4+pieceSize]
		b = b[4+pieceSize:]
	}
	return s
}

// TestOptical shows what is looked for on discs.
func TestOptical(t *testing.T) {
	for image, want := range map[string]string{
		"iso": "iso9660", "udf optical": "udf", "iso udf bridge": "udf", "ext4": "ext4", "luks2": "crypto_LUKS",
		"swap": "", "lvm2": "", "md 1.2": "", "bcache": "", "ext journal": "",
	} {
		d, c := find(t, image).disk(t, 512)
		d.Optical = true
		r, err := Probe(d)
		must(t, err)
		if c.check(); r.Type != want {
			t.Errorf("%s in an optical drive: the type is %q, not %q", image, r.Type, want)
		}
	}
}

func BenchmarkProbe(b *testing.B) {
	for _, g := range readGolden(b) {
		if g.Name == "ext4" || g.Name == "gpt" || g.Name == "fat32" {
			b.Run(g.Name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					Probe(&Disk{Contents: g.sparse, Size: g.Size})
				}
			})
		}
	}
}
