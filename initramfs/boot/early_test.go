package boot_test

import (
	"testing"

	"devspool/initramfs/boot"
)

// beforeImage are the nodes whose events come before the kernel has unpacked the
// image: those of drivers that start as fs_initcall. No helper can see them.
var beforeImage = []string{
	"full", "hwrng", "kmsg", "mem", "null", "port", "random", "tty", "urandom", "zero",
}

// The kernel starts its helpers with no descriptors open, and long before /init.
// On an empty /dev they have neither null nor console: none is lost all the same.
func TestHelperFromTheFirstEvent(t *testing.T) {
	lab := boot.NewLab(t)
	o := boot.Options{Helper: true, Bare: true, Append: []string{fewTerminals}}
	lab.Run(t, o, func(g *boot.Guest) {
		g.Settle()
		want := withoutLinks(fresh(g, "")) // where /sys is not mounted yet there are no names
		for _, name := range beforeImage {
			delete(want, name)
		}
		if len(want) < 50 {
			g.Errorf("only %d paths to look for", len(want))
		}
		g.Until("the helpers' work", func() error {
			got, err := boot.TakeSnapshot("/dev")
			if err != nil {
				return err
			}
			return withoutLinks(got).Diff(want)
		})
		g.Command(program, "-s")
		sameAsFresh(g, "after a coldplug", "")
		noComplaints(g)
	})
}

// withoutLinks returns the nodes of s.
func withoutLinks(s boot.Snapshot) boot.Snapshot {
	all := boot.Snapshot{}
	for path, what := range s {
		if what[0] == 'b' || what[0] == 'c' {
			all[path] = what
		}
	}
	return all
}
