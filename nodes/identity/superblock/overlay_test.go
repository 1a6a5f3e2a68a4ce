package superblock

import (
	"os"
	"strings"
	"testing"
)

// TestOverlays lays the marks of each kind of contents over each other kind, and
// compares with blkid: which of them excludes which, and where nothing is said.
func TestOverlays(t *testing.T) {
	program, version := blkidProgram(t)
	regions := map[string][2]int64{
		"ext4":     {1024, 1024},
		"ext3":     {1024, 1024},
		"xfs":      {0, 512},
		"btrfs":    {64 << 10, 4096},
		"f2fs":     {1024, 3072},
		"erofs":    {1024, 3072},
		"squashfs": {0, 96},
		"fat32":    {0, 512},
		"exfat":    {0, 6144},
		"ntfs":     {0, 512},
		"iso":      {32 << 10, 8192},
		"udf":      {32 << 10, 6144},
		"swap":     {1024, 3072},
		"luks2":    {0, 4096},
		"lvm2":     {512, 512},
		"md 1.2":   {4096, 4096},
		"md 1.0":   {20963328, 4096},
		"bcache":   {4096, 4096},
		"gpt":      {0, 17408},
		"mbr":      {440, 72},
		"ubifs":    {0, 4096},
		"zfs":      {0, 256 << 10},
	}
	parts := map[string][]byte{}
	paths := map[string]string{}
	for _, i := range images {
		if region, ok := regions[i.name]; ok {
			path := i.make(t)
			f, err := os.Open(path)
			must(t, err)
			b := make([]byte, region[1])
			f.ReadAt(b, region[0])
			f.Close()
			parts[i.name], paths[i.name] = b, path
			must(t, os.Truncate(path, 420<<20)) // as large as the largest needs
		}
	}
	used := map[difference]bool{}
	for under, path := range paths {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		for over, b := range parts {
			old := make([]byte, len(b))
			f.ReadAt(old, regions[over][0])
			f.WriteAt(b, regions[over][0])
			compare(t, over+" over "+under, "blkid "+version, probed(t, open(t, path, 512)), blkid(t, program, path), used)
			f.WriteAt(old, regions[over][0])
		}
		f.Close()
	}
	if !t.Failed() {
		checkUsed(t, overlayDifferences, "blkid "+version, used)
	}
}

// TestEncode holds what the properties for people and for links make of text.
func TestEncode(t *testing.T) {
	for _, c := range []struct{ in, safe, encoded string }{
		{"", "", ""},
		{"plain-1.2:3=4@5_6+7#8", "plain-1.2:3=4@5_6+7#8", "plain-1.2:3=4@5_6+7#8"},
		{" a \t\n b ", "a_b", `\x20a\x20\x09\x0a\x20b\x20`},
		{"../x\\y", "../x\\y", `..\x2fx\x5cy`},
		{"größe", "größe", "größe"},
		{"\x1b[31m\x7f", "_[31m_", `\x1b\x5b31m\x7f`},
		{"a\xff\xc0\x80b", "a___b", `a\xff\xc0\x80b`},
		{"\xed\xa0\x80", "___", `\xed\xa0\x80`},
		{"\ufdd0\U0001ffff", "_______", `\xef\xb7\x90\xf0\x9f\xbf\xbf`},
		{"a\u00a0b", "a\u00a0b", "a\u00a0b"},
		{strings.Repeat("/", 64), strings.Repeat("/", 64), strings.Repeat(`\x2f`, 63)},
		{strings.Repeat("é", 200), strings.Repeat("é", 127), strings.Repeat("é", 127)},
	} {
		if got := Safe(c.in); got != c.safe {
			t.Errorf("Safe(%q) is %q, not %q", c.in, got, c.safe)
		}
		if got := Encode(c.in); got != c.encoded {
			t.Errorf("Encode(%q) is %q, not %q", c.in, got, c.encoded)
		}
	}
}
