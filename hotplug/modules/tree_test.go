package modules

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	hotplugtest.RemoveModules()
	os.Exit(code)
}

// kmod runs modprobe on a tree, and returns its lines.
func kmod(t testing.TB, tree hotplugtest.ModulesTree, conf string, args ...string) []string {
	t.Helper()
	cmd := exec.Command("modprobe", append([]string{"-d", tree.Root, "-S", tree.Release, "-C", conf}, args...)...)
	var out bytes.Buffer
	cmd.Stdout = &out
	_ = cmd.Run() // where nothing is found there is no output
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	return lines
}

// once leaves out what was there before: modprobe lists some modules twice.
func once(lines []string) (all []string) {
	for _, line := range lines {
		if !slices.Contains(all, line) {
			all = append(all, line)
		}
	}
	return all
}

// shown is what modprobe --show-depends would print of steps.
func shown(steps []Step) (lines []string) {
	for _, s := range steps {
		line := ""
		switch {
		case s.Install != "":
			line = "install " + s.Install + " " + s.Options
		case s.Path != "":
			line = "insmod " + s.Path + " " + s.Options
		case s.Builtin:
			line = "builtin " + s.Name
		default:
			continue
		}
		lines = append(lines, strings.TrimRight(line, " "))
	}
	return lines
}

// concrete makes of a pattern an alias that fits it.
func concrete(pattern string, random *rand.Rand) string {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*':
			for range random.IntN(3) {
				b.WriteByte("0123456789ABCDEFs"[random.IntN(17)])
			}
		case '?':
			b.WriteByte('0')
		case '[':
			b.WriteByte(pattern[i+1])
			i += strings.IndexByte(pattern[i:], ']')
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// sample returns aliases of every kind that a tree knows: of devices, of symbols, names of
// modules and of what is part of the kernel, and some that nothing has.
func sample(t testing.TB, tree hotplugtest.ModulesTree, most int) []string {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	var all []string
	text := hotplugtest.Contents(t, tree.Dir+"/modules.alias") + hotplugtest.Contents(t, tree.Dir+"/modules.symbols")
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" {
			all = append(all, concrete(f[1], random))
		}
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	all = all[:most*2/3]
	for line := range strings.Lines(hotplugtest.Contents(t, tree.Dir+"/modules.dep")) {
		path, _, _ := strings.Cut(line, ":")
		all = append(all, strings.TrimSuffix(filepath.Base(path), ".ko"))
	}
	for line := range strings.Lines(hotplugtest.Contents(t, tree.Dir+"/modules.builtin")) {
		all = append(all, strings.TrimSuffix(filepath.Base(strings.TrimSpace(line)), ".ko"))
	}
	for field := range strings.SplitSeq(hotplugtest.Contents(t, tree.Dir+"/modules.builtin.modinfo"), "\x00") {
		if _, alias, ok := strings.Cut(field, ".alias="); ok {
			all = append(all, concrete(alias, random))
		}
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	all = all[:min(len(all), most)]
	return append(all, "pci:v0000FFFFd0000FFFFsv00000000sd00000000bcFFscFFiFF", "nothing", "a[b", "a]b", "acpi:PNP0000:PNP9999:", "[", "*")
}

// TestLikeModprobe shows that each alias leads to the same modules, in the same order and
// with the same parameters, as modprobe would load; by the indexes and by the texts.
func TestLikeModprobe(t *testing.T) {
	tree := hotplugtest.DebianModules(t)
	conf := t.TempDir()
	hotplugtest.WriteFile(t, conf+"/a.conf", `# a comment
alias my-card snd-hda-intel
alias my-card loop
alias my-* nbd
options snd-hda-intel power_save=1 \
   model=x
options my_card index=0
options loop max_loop=8
blacklist snd_hda_intel
blacklist i2c-piix4
softdep e1000e pre: loop post: nbd
softdep zram pre: null-blk
softdep null_blk pre: zram
install floppy /bin/false
install pcspkr /sbin/modprobe --ignore-install pcspkr
install made-up echo hello
softdep pcspkr pre: loop
remove ext4 echo no
`)
	hotplugtest.WriteFile(t, conf+"/z.conf", "softdep ext4 pre: nbd\nalias net-pf-10 off\n")
	hotplugtest.WriteFile(t, conf+"/ignored", "alias ignored loop\n")
	most := 3000
	if testing.Short() {
		most = 300
	}
	aliases := append(sample(t, tree, most), "my-card", "my_thing", "e1000e", "ext4", "floppy", "pcspkr", "made-up", "made_up", "snd-hda-intel", "loop", "nbd", "zram", "null-blk", "i2c-piix4", "net-pf-10", "ignored")
	source := Source{Root: tree.Root, Release: tree.Release, Config: []string{conf}}
	indexed, err := OpenTree(source)
	hotplugtest.Must(t, err)
	texts, err := OpenTree(source)
	hotplugtest.Must(t, err)
	for i := range texts.tables {
		texts.tables[i].noIndex = true
		texts.tables[i].forget()
	}
	resolve := func(tree *Tree, alias string) ([]string, []string) {
		var names []string
		for _, target := range tree.Lookup(alias) {
			names = append(names, target.Name)
		}
		steps, _ := tree.Resolve(alias, 0)
		checkOrder(t, alias, steps)
		return names, shown(steps)
	}
	for _, alias := range aliases {
		wantNames := kmod(t, tree, conf, "-R", "--", alias)
		want := once(kmod(t, tree, conf, "-D", "--", alias))
		for name, mine := range map[string]*Tree{"index": indexed, "text": texts} {
			names, got := resolve(mine, alias)
			if !slices.Equal(names, wantNames) {
				t.Errorf("%s: %s: names %q, modprobe -R %q", name, alias, names, wantNames)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %s:\n%s\nmodprobe -D:\n%s", name, alias, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
	t.Logf("%d aliases", len(aliases))
}

// checkOrder shows that steps name only those before them.
func checkOrder(t *testing.T, alias string, steps []Step) {
	t.Helper()
	for i, s := range steps {
		for _, j := range append(slices.Clone(s.Needs), s.After...) {
			if j >= i {
				t.Errorf("%s: step %d, %s, waits for step %d", alias, i, s.Name, j)
			}
		}
	}
}
