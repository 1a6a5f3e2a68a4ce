package boot_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"devspool/initramfs/boot"
)

// TestMedia shows that a disc which is put into a drive gets its names without a word to the program,
// that its names go when it is taken out, and that one which takes its place gets its own. The drive
// keeps its node and its names all the while.
func TestMedia(t *testing.T) {
	lab := boot.NewLab(t)
	o := boot.Options{Kernel: boot.QEMU, Memory: 512, Modules: []string{"virtio_pci", "virtio_scsi", "sr_mod"}}
	o.Devices = []string{"-device", "virtio-scsi-pci,id=hba", "-device", "scsi-cd,id=drive,bus=hba.0"}
	discs := []string{"FIRST", "SECOND"}
	if onHost() {
		need(t, "genisoimage")
		dir := t.TempDir()
		for _, name := range discs {
			image := filepath.Join(dir, name)
			if out, err := exec.Command("sh", "-ec", fmt.Sprintf("mkdir %s.d && genisoimage -quiet -V %s -o %[1]s %[1]s.d", image, name)).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			o.Devices = append(o.Devices, "-blockdev", "driver=raw,read-only=on,node-name="+name+",file.driver=file,file.filename="+image)
		}
	}
	lab.Run(t, o, func(g *boot.Guest) {
		for _, name := range o.Modules {
			g.Insmod(name)
		}
		monitor := g.Monitor()
		do := func(command string, arguments map[string]any) {
			g.Helper()
			arguments["id"] = "drive"
			if err := monitor.Do(command, arguments); err != nil {
				g.Fatal(err)
			}
		}
		mountDev(g, "tmpfs")
		stop := startLoop(g)
		defer stop()
		shows := func(want string) {
			g.Helper()
			g.Until("disk/by-label has "+want, func() error {
				links, err := filepath.Glob("/dev/disk/by-label/*")
				if got := fmt.Sprint(links); err != nil || got != want {
					return fmt.Errorf("it has %s, error %v", got, err)
				}
				return nil
			})
			if paths, err := filepath.Glob("/dev/disk/by-path/*"); err != nil || len(paths) != 1 {
				g.Errorf("the drive's names by its place: %q, error %v", paths, err)
			}
			if to, err := os.Readlink("/dev/cdrom"); to != "sr0" {
				g.Errorf("cdrom leads to %q, error %v", to, err)
			}
		}
		// QEMU's drive tells of a tray that is closed, not of one that opens.
		open := func() {
			g.Helper()
			do("blockdev-open-tray", map[string]any{"force": true})
		}
		insert := func(name string) {
			g.Helper()
			do("blockdev-insert-medium", map[string]any{"node-name": name})
			do("blockdev-close-tray", map[string]any{})
		}
		remove := func() {
			g.Helper()
			open()
			do("blockdev-remove-medium", map[string]any{})
		}
		shows("[]")
		open()
		for _, name := range discs {
			insert(name)
			shows("[/dev/disk/by-label/" + name + "]")
			remove()
			do("blockdev-close-tray", map[string]any{})
			shows("[]")
			open()
		}
		// One takes the place of the other between two looks of the kernel.
		for _, name := range []string{discs[0], discs[1], discs[0]} {
			insert(name)
			shows("[/dev/disk/by-label/" + name + "]")
			remove()
		}
	})
}
