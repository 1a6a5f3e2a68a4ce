package modules

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"devspool/hotplug/hotplugtest"
)

// smallIndex is one that depmod wrote, for a few aliases.
func smallIndex(f *testing.F) []byte {
	text, err := os.ReadFile("testdata/modules.alias.bin")
	if err != nil {
		f.Fatal(err)
	}
	return text
}

// FuzzIndex shows that no file makes a search crash, or take long.
func FuzzIndex(f *testing.F) {
	index := smallIndex(f)
	f.Add(index, "pci:v00008086d00001237sv0sd0bc0sc0i0")
	f.Add(index, "char_major_10_237")
	f.Add(index[:len(index)/2], "usb:v046DpC281d0dc0dsc0dp0ic0isc0ip0in0")
	// A root that is its own child, and one whose values have no end.
	f.Add([]byte("\xb0\x07\xf4\x57\x00\x02\x00\x01\x20\x00\x00\x0c**\x20\x00\x00\x0c"), "x")
	f.Add([]byte("\xb0\x07\xf4\x57\x00\x02\x00\x01\x20\x00\x00\x0c*+\x20\x00\x00\x0c\x20\x00\x00\x0c"), "x")
	f.Add([]byte("\xb0\x07\xf4\x57\x00\x02\x00\x01\x40\x00\x00\x0c\xff\xff\xff\xff\x00"), "")
	path := filepath.Join(f.TempDir(), "index")
	f.Fuzz(func(t *testing.T, index []byte, name string) {
		if err := os.WriteFile(path, index, 0o644); err != nil {
			t.Fatal(err)
		}
		x := openIndex(path)
		if x == nil {
			return
		}
		defer x.close()
		start := time.Now()
		x.lookup(name)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the search took %v", took)
		}
	})
}

// FuzzConfig shows that no text makes the parsers crash, and that what they took is normal.
func FuzzConfig(f *testing.F) {
	f.Add("alias a b\noptions a-b x=\"1 2\" \\\n y\nsoftdep a pre: b post: c\nblacklist z\n", "a.b=1 modprobe.blacklist=x,y \"q.r=s t\" -- z")
	f.Add("install [ x\n\\", "\"")
	f.Fuzz(func(t *testing.T, text, line string) {
		var c config
		c.parse("x", text)
		c.commandLine(line)
		for _, l := range c.lines {
			if again, ok := normalize(l.key); !ok || again != l.key {
				t.Errorf("key %q", l.key)
			}
		}
		for rest := line; rest != ""; {
			before := len(rest)
			if _, rest = Parameter(rest); len(rest) >= before {
				t.Fatalf("%q: no end", line)
			}
		}
		ParseCommand(text)
	})
}

// FuzzDependencies shows that no modules.dep and modules.softdep make Resolve crash or
// break the order of its steps.
func FuzzDependencies(f *testing.F) {
	f.Add("a.ko: b.ko c.ko\nb.ko: c.ko\nc.ko:\n", "softdep a pre: c post: b\nsoftdep c pre: a\n", "a")
	f.Add("a.ko: a.ko\n:\n", "softdep a pre: a post: a\n", "a")
	root := f.TempDir()
	f.Fuzz(func(t *testing.T, dep, softdep, name string) {
		dir := root + "/lib/modules/1/"
		hotplugtest.WriteFile(t, dir+"modules.dep", dep)
		hotplugtest.WriteFile(t, dir+"modules.softdep", softdep)
		tree, err := OpenTree(Source{Root: root, Release: "1"})
		if err != nil {
			return
		}
		steps, _ := tree.Resolve(name, 0)
		for i, s := range steps {
			for _, j := range append(s.Needs, s.After...) {
				if j >= i {
					t.Errorf("step %d waits for step %d", i, j)
				}
			}
		}
	})
}
