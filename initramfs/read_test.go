package initramfs

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"devspool/hotplug/uevent"
)

// entriesOf reads an archive with the Reader and makes entries of it again.
func entriesOf(from *bufio.Reader) (entries []Entry, err error) {
	r := NewReader(from)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return entries, err
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return entries, err
		}
		mode := h.Mode &^ typeMask
		switch node, block := h.IsNode(); {
		case h.IsDir():
			entries = append(entries, Dir{Path: h.Path, Mode: mode, UID: h.UID, GID: h.GID})
		case h.IsFile():
			entries = append(entries, File{Path: h.Path, Mode: mode, UID: h.UID, GID: h.GID, Text: string(text)})
		case h.IsSymlink():
			entries = append(entries, Symlink{Path: h.Path, UID: h.UID, GID: h.GID, Target: string(text)})
		case node:
			entries = append(entries, Node{Path: h.Path, Mode: mode, UID: h.UID, GID: h.GID,
				Dev: uevent.Dev{Block: block, Major: h.Major, Minor: h.Minor}})
		}
	}
}

func TestReaderGivesWhatWasPacked(t *testing.T) {
	archive := pack(t, sample()...)
	source := bufio.NewReader(strings.NewReader(string(archive) + "what follows"))
	entries, err := entriesOf(source)
	if err != nil {
		t.Fatal(err)
	}
	if again := pack(t, entries...); !bytes.Equal(again, archive) {
		t.Errorf("packed again it is another archive: %v", entries)
	}
	if rest, _ := io.ReadAll(source); string(rest) != "what follows" {
		t.Errorf("behind the archive there is %q", rest)
	}
}

// TestReaderReadsCpio reads what the C program wrote, in both of the formats.
func TestReaderReadsCpio(t *testing.T) {
	needs(t, "another program's archives", "cpio")
	for _, format := range []string{"newc", "crc"} {
		cmd := exec.Command("cpio", "-o", "--quiet", "-H", format)
		cmd.Stdin = strings.NewReader("archive.go\ndoc.go\n")
		archive, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		entries, err := entriesOf(bufio.NewReader(bytes.NewReader(archive)))
		if err != nil || len(entries) != 2 {
			t.Fatalf("%s: %v, %v", format, entries, err)
		}
		if f := entries[1].(File); f.Path != "doc.go" || !strings.HasPrefix(f.Text, "// Package initramfs") {
			t.Errorf("%s: %+v", format, f)
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	archive := pack(t, sample()...)
	for n := range len(archive) - 4 { // the last bytes may be padding
		if _, err := entriesOf(bufio.NewReader(bytes.NewReader(archive[:n]))); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
	}
	long := strings.Replace(string(archive), "00000004", "7FFFFFFF", -1)
	for _, text := range []string{"x" + string(archive), long, "070701" + strings.Repeat("g", 200)} {
		if _, err := entriesOf(bufio.NewReader(strings.NewReader(text))); err == nil {
			t.Errorf("no error for %.60q", text)
		}
	}
}

// FuzzReader reads bytes that may be no archive. Where they are one of entries that
// can be packed, they are read from the packed archive as they were.
func FuzzReader(f *testing.F) {
	f.Add(pack(f, sample()...))
	f.Add(pack(f))
	f.Add([]byte("070701"))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := entriesOf(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		var packed, again bytes.Buffer
		if Archive(&packed, entries...) != nil {
			return
		}
		first := bytes.Clone(packed.Bytes())
		entries, err = entriesOf(bufio.NewReader(&packed))
		if err != nil {
			t.Fatal(err)
		}
		if err := Archive(&again, entries...); err != nil || !bytes.Equal(first, again.Bytes()) {
			t.Fatalf("packed twice it is another archive: %v", err)
		}
	})
}
