package boot_test

import (
	"strings"
	"testing"

	"devspool/initramfs/boot"
)

// A loop mounts a tmpfs for its clients. Kernels that know no quotas on one have
// nothing to complain of.
func TestMountIsQuiet(t *testing.T) {
	lab := boot.NewLab(t)
	lab.Run(t, boot.Options{}, func(g *boot.Guest) {
		mountDev(g, "tmpfs")
		g.Command(program, "-d")
		if mounts := g.Read("/proc/mounts"); !strings.Contains(mounts, " /dev/events ") {
			g.Errorf("no tmpfs: %s", mounts)
		}
		g.Command(program, "ctl", "exit")
		if log := g.KernelLog(); strings.Contains(log, "Unknown parameter") {
			g.Errorf("the kernel complains: %s", log)
		}
	})
}
