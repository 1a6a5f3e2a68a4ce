package kernel

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devspool/initramfs/mkinitramfs/packer/packtest"
)

// debian opens the modules of Debian's kernel.
func debian(t testing.TB) *Tree {
	t.Helper()
	root, release := packtest.Kernel(t)
	tree, err := Open(filepath.Join(root, "lib/modules", release), release, nil)
	packtest.Must(t, err)
	return tree
}

// some selects a few modules with many relations.
func some(t testing.TB, tree *Tree) *Selection {
	t.Helper()
	s := tree.Select()
	for _, name := range []string{"virtio_blk", "virtio-pci", "nvme", "ext4", "btrfs", "dm-crypt", "usb_storage", "fs-vfat", "ahci", "r8169", "snd_hda_intel"} {
		packtest.Must(t, s.Add(name, "test"))
	}
	s.AddDir("drivers/net/ethernet/intel", "test")
	return s
}

// stage makes a directory of the selected modules.
func stage(t testing.TB, s *Selection, indexes map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	dir := filepath.Join(root, "lib/modules", s.tree.Release)
	for _, m := range s.Modules() {
		data, err := ReadModule(filepath.Join(s.tree.Dir, m.Path))
		packtest.Must(t, err)
		packtest.Write(t, filepath.Join(dir, m.Stored()), string(data))
	}
	for name, text := range indexes {
		packtest.Write(t, filepath.Join(dir, name), text)
	}
	return root
}

// relation splits an index into its lines, without comments, sorted.
func relation(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

// needs is relation of modules.dep where what a module needs is in no order: of two that do not need
// each other depmod puts either first.
func needs(text string) (lines []string) {
	for _, line := range relation(text) {
		words := strings.Fields(line)
		slices.Sort(words[1:])
		lines = append(lines, strings.Join(words, " "))
	}
	return lines
}

// TestIndexesAreDepmods lets depmod make the indexes of the same modules.
func TestIndexesAreDepmods(t *testing.T) {
	packtest.Needs(t, "the indexes beside depmod's", "depmod")
	tree := debian(t)
	s := some(t, tree)
	ours := s.Indexes(true)
	root := stage(t, s, map[string]string{"modules.order": ours["modules.order"], "modules.builtin": ours["modules.builtin"],
		"modules.builtin.modinfo": ""})
	packtest.Run(t, "depmod", "-b", root, tree.Release)
	dir := filepath.Join(root, "lib/modules", tree.Release)
	for _, name := range []string{"modules.alias", "modules.softdep"} {
		theirs, err := os.ReadFile(filepath.Join(dir, name))
		packtest.Must(t, err)
		compare(t, name, relation(ours[name]), relation(string(theirs)))
	}
	theirs, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	packtest.Must(t, err)
	compare(t, "modules.dep", sortedNeeds(ours["modules.dep"]), sortedNeeds(string(theirs)))
	checkOrder(t, ours["modules.dep"])

	// What depmod wrote is read again, and what is made of that is the same.
	again, err := Open(dir, tree.Release, nil)
	packtest.Must(t, err)
	all := again.Select()
	for _, m := range again.Modules {
		packtest.Must(t, all.Add(m.Name, "all"))
	}
	compare(t, "modules.dep of depmod's", relation(all.Indexes(false)["modules.dep"]), relation(string(theirs)))
}

// sortedNeeds returns the lines of a modules.dep with what is needed sorted: depmod has
// another order among those that do not need each other.
func sortedNeeds(text string) (lines []string) {
	for _, line := range relation(text) {
		name, needs, _ := strings.Cut(line, ":")
		list := strings.Fields(needs)
		slices.Sort(list)
		lines = append(lines, name+": "+strings.Join(list, " "))
	}
	return lines
}

// checkOrder shows that whatever is loaded from the end of a line finds its needs there.
func checkOrder(t *testing.T, text string) {
	t.Helper()
	needs := map[string][]string{}
	for _, line := range relation(text) {
		name, list, _ := strings.Cut(line, ":")
		needs[name] = strings.Fields(list)
	}
	for name, list := range needs {
		loaded := map[string]bool{}
		for _, m := range slices.Backward(list) {
			for _, n := range needs[m] {
				if !loaded[n] {
					t.Fatalf("%s: %s comes before %s, which it needs", name, m, n)
				}
			}
			loaded[m] = true
		}
	}
}

func compare(t *testing.T, what string, ours, theirs []string) {
	t.Helper()
	for _, line := range ours {
		if !slices.Contains(theirs, line) {
			t.Errorf("%s: only ours has %q", what, line)
		}
	}
	for _, line := range theirs {
		if !slices.Contains(ours, line) {
			t.Errorf("%s: only depmod's has %q", what, line)
		}
	}
	if len(ours) != len(theirs) || len(ours) == 0 {
		t.Errorf("%s: %d lines, depmod has %d", what, len(ours), len(theirs))
	}
}

// TestModprobeReadsOurBinaries asks kmod's modprobe, once with our files and once with
// depmod's, what it would load.
func TestModprobeReadsOurBinaries(t *testing.T) {
	packtest.Needs(t, "the binary indexes", "modprobe", "depmod")
	tree := debian(t)
	s := some(t, tree)
	ours := s.Indexes(true)
	roots := []string{stage(t, s, ours), stage(t, s, map[string]string{"modules.order": ours["modules.order"], "modules.builtin": ours["modules.builtin"],
		"modules.builtin.modinfo": ""})}
	packtest.Run(t, "depmod", "-b", roots[1], tree.Release)
	show := func(root, name string) string {
		// Without a configuration of this machine.
		out, err := exec.Command("modprobe", "-C", t.TempDir(), "-d", root, "-S", tree.Release, "-D", name).CombinedOutput()
		text := strings.ReplaceAll(string(out), root, "")
		if err != nil {
			text += err.Error()
		}
		lines := strings.Split(text, "\n")
		slices.Sort(lines) // modules that do not need each other
		return strings.Join(lines, "\n")
	}
	for _, name := range []string{"virtio_blk", "ext4", "btrfs", "dm-crypt", "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00",
		"virtio:d00000002v00001AF4", "fs-ext4", "loop", "unix", "scsi:t-0x00", "no-such-thing", "usb:v0781p5567d0100dc00dsc00dp00ic08isc06ip50in00"} {
		if got, want := show(roots[0], name), show(roots[1], name); got != want {
			t.Errorf("%s: modprobe says\n%s\nand with depmod's files\n%s", name, got, want)
		}
	}
}

func TestSelection(t *testing.T) {
	tree := debian(t)
	s := tree.Select("drivers/net", "uas")
	packtest.Must(t, s.Add("ext4", "test"))
	if tree.Module("crc32c_generic") == nil || s.Why(tree.Module("crc32c_generic")) != "wished for by jbd2" {
		t.Errorf("ext4's wish for crc32c was not heard: %v", s.why)
	}
	if s.AddDir("drivers/net/ethernet/intel", "test") == 0 || len(s.tree.Below("drivers/net/ethernet/intel")) == 0 {
		t.Error("no drivers of intel")
	}
	if s.Why(tree.Module("e1000e")) != "" {
		t.Error("what is excluded is there")
	}
	if err := s.Add("uas", "test"); err == nil || !strings.Contains(err.Error(), "excluded by uas") {
		t.Errorf("%v", err)
	}
	if err := s.Add("virtio_blq", "test"); err == nil {
		t.Error("no error for a module that is not there")
	}
	if err := s.Add("virtio_bl", "test"); err == nil || !strings.Contains(err.Error(), "virtio_blk") {
		t.Errorf("%v", err)
	}
	packtest.Must(t, s.Add("unix", "test")) // part of the kernel
	if s.AddAlias("pci:v00008086d00005845sv00001AF4sd00001100bc01sc08i02", "test") == 0 || s.Why(tree.Module("nvme")) == "" {
		t.Error("the modalias of an NVMe disk brings nothing in")
	}
}

// TestCompressedModules reads modules as newer releases of Debian have them.
func TestCompressedModules(t *testing.T) {
	packtest.Needs(t, "compressed modules", "xz", "zstd", "gzip")
	tree := debian(t)
	s := tree.Select()
	packtest.Must(t, s.Add("virtio_blk", "test"))
	packtest.Must(t, s.Add("virtio_pci", "test"))
	packtest.Must(t, s.Add("nvme", "test"))
	root := stage(t, s, nil)
	dir := filepath.Join(root, "lib/modules", tree.Release)
	for i, m := range s.Modules() {
		file := filepath.Join(dir, m.Stored())
		switch i % 3 {
		case 0:
			packtest.Run(t, "xz", "--check=crc32", "--lzma2=dict=1MiB", file)
		case 1:
			packtest.Run(t, "zstd", "-q", "--rm", file)
		case 2:
			packtest.Run(t, "gzip", file)
		}
	}
	packed, err := Open(dir, tree.Release, nil)
	packtest.Must(t, err)
	again := packed.Select()
	for _, m := range packed.Modules {
		packtest.Must(t, again.Add(m.Name, "test"))
		data, err := ReadModule(filepath.Join(dir, m.Path))
		packtest.Must(t, err)
		plain, err := ReadModule(filepath.Join(tree.Dir, m.Stored()))
		packtest.Must(t, err)
		if string(data) != string(plain) {
			t.Errorf("%s is not as it was", m.Path)
		}
	}
	if got, want := needs(again.Indexes(false)["modules.dep"]), needs(s.Indexes(false)["modules.dep"]); !slices.Equal(got, want) {
		t.Errorf("modules.dep\n%q\nwant\n%q", got, want)
	}
}

func TestWeakdep(t *testing.T) {
	dir := t.TempDir()
	packtest.Write(t, filepath.Join(dir, "modules.dep"), "kernel/a.ko: kernel/b.ko\nkernel/b.ko:\nkernel/c.ko.zst:\nkernel/d-e.ko:\n")
	packtest.Write(t, filepath.Join(dir, "modules.weakdep"), "# comment\nweakdep b c missing\n")
	packtest.Write(t, filepath.Join(dir, "modules.softdep"), "softdep c pre: post: d_e\n")
	tree, err := Open(dir, "1", nil)
	packtest.Must(t, err)
	s := tree.Select()
	packtest.Must(t, s.Add("a", "test"))
	if len(s.Modules()) != 4 || len(s.Notes) != 1 {
		t.Errorf("%v %v", s.why, s.Notes)
	}
	want := map[string]string{
		"modules.dep":     "kernel/a.ko: kernel/b.ko\nkernel/b.ko:\nkernel/c.ko:\nkernel/d-e.ko:\n",
		"modules.order":   "kernel/a.ko\nkernel/b.ko\nkernel/c.ko\nkernel/d-e.ko\n",
		"modules.alias":   "# Aliases extracted from modules themselves.\n",
		"modules.softdep": "softdep c pre: post: d_e\n", "modules.weakdep": "weakdep b c missing\n",
	}
	got := s.Indexes(false)
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s: %q, want %q", name, got[name], want[name])
		}
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"*", "", true}, {"*", "a/b", true}, {"a*c*e", "abcde", true}, {"a*c*e", "abcdf", false},
		{"pci:v*d00000001sv*", "pci:v1d00000001sv2", true}, {"[a-c]x", "bx", true}, {"[!a-c]x", "bx", false},
		{"[]]", "]", true}, {"[a", "[a", true}, {"?", "", false}, {`\*`, "*", true}, {`\*`, "a", false}, {"a", "ab", false}, {"**b", "aab", true},
	} {
		if got := Match(c.pattern, c.text); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.pattern, c.text, got)
		}
	}
}

// FuzzMatch compares with path.Match where the two agree: without slashes, and where
// the pattern is one.
func FuzzMatch(f *testing.F) {
	f.Add("a*[b-d]?", "axxcz")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 50 || len(text) > 50 {
			return
		}
		got := Match(pattern, text)
		if strings.ContainsAny(pattern+text, "/\\[") || strings.ContainsFunc(pattern+text, func(r rune) bool { return r > 126 }) {
			return
		}
		if want, err := path.Match(pattern, text); err == nil && got != want {
			t.Errorf("Match(%q, %q) = %v", pattern, text, got)
		}
	})
}
