package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"devspool/initramfs/mkinitramfs/packer/kernel"
)

// chooseThisMachine selects what the devices of /sys ask for, and what the root file
// system is made of. Modules that are loaded now do not count: some were loaded by hand, and
// drivers that the kernel has built in may be modules in another one.
func (p *packer) chooseThisMachine(s *kernel.Selection) error {
	asked, matched := 0, 0
	// Below devices each device stands once, and no link has to be followed.
	devices := filepath.Join(p.o.sys, "devices")
	// Many devices of one kind have the same modalias: PCI ports, or the processors.
	seen := map[string]bool{}
	err := filepath.WalkDir(devices, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) && name != devices {
				return nil // a device that went meanwhile
			}
			return err
		}
		if d.Name() != "modalias" || !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(name)
		alias := strings.TrimSpace(string(text))
		if err != nil || alias == "" || seen[alias] {
			return nil // some drivers have nothing to say
		}
		seen[alias] = true
		asked++
		device := strings.TrimPrefix(filepath.Dir(name), filepath.Clean(p.o.sys))
		// Many devices need no module, or one that is built in.
		if s.AddAlias(alias, "device "+device) > 0 {
			matched++
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("--for-this-machine: %w", err)
	}
	if asked == 0 {
		return fmt.Errorf("--for-this-machine: no device below %s has a modalias: is /sys mounted?", devices)
	}
	p.report.note("%d of %d modaliases ask for a module", matched, asked)
	return p.chooseRoot(s)
}

// chooseRoot selects the file system that is mounted at /, and what lies below it.
func (p *packer) chooseRoot(s *kernel.Selection) error {
	// Always of the running system: --sys names another /sys, but not another /proc.
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("--for-this-machine: %w", err)
	}
	numbers, fstype := rootMount(string(text))
	if fstype != "" {
		// By the alias the kernel finds a file system's module (MODULE_ALIAS_FS).
		s.AddAlias("fs-"+fstype, "file system of /")
	}
	// btrfs and overlayfs have numbers of no device here; then nothing lies below that is known.
	p.chooseStack(s, filepath.Join(p.o.sys, "dev/block", numbers), 0)
	return nil
}

// rootMount returns the device's numbers and the type of the file system at /, from the text of
// /proc/self/mountinfo (proc(5)): the fields in front of " - " vary in number.
func rootMount(mountinfo string) (numbers, fstype string) {
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(line, " - ")
		f, types := strings.Fields(left), strings.Fields(right)
		if ok && len(f) > 4 && f[4] == "/" && len(types) > 0 {
			// By proc(5): field 3 is major:minor, 5 the mount point, and the type is the first behind the dash.
			numbers, fstype = f[2], types[0] // the last one is on top
		}
	}
	return numbers, fstype
}

// chooseStack selects what a disk of disks needs, and what those need: these have no modalias. The
// depth bounds the walk, whatever the links of /sys are.
func (p *packer) chooseStack(s *kernel.Selection, disk string, depth int) {
	if depth > 10 {
		return
	}
	read := func(name string) string {
		text, _ := os.ReadFile(filepath.Join(disk, name)) // a disk of another kind has no such file
		return strings.TrimSpace(string(text))
	}
	// The UUID begins with what kind of device it is: CRYPT- or LVM- and the like.
	if uuid := read("dm/uuid"); uuid != "" {
		s.AddAlias("dm_mod", "device mapper below /")
		if strings.HasPrefix(uuid, "CRYPT-") {
			for _, name := range setOf("crypt").modules {
				s.AddAlias(name, "LUKS below /")
			}
		}
	}
	// The drivers of RAID levels have aliases such as md-raid1.
	if level := read("md/level"); level != "" {
		s.AddAlias("md-"+level, "RAID below /")
	}
	// A partition has no slaves directory; its disk and controller were found by their modaliases.
	below, _ := os.ReadDir(filepath.Join(disk, "slaves"))
	for _, b := range below {
		p.chooseStack(s, filepath.Join(p.o.sys, "class/block", b.Name()), depth+1)
	}
}
