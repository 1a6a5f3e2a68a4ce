package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"devspool/initramfs"
	"devspool/initramfs/mkinitramfs/packer/packed"
	"devspool/initramfs/mkinitramfs/packer/programs"
)

// early returns what goes in front of the image, not compressed: the kernel looks for
// microcode there long before it unpacks anything. Archives of the user come first, as they are.
func (p *packer) early() ([]byte, error) {
	var all bytes.Buffer
	for _, name := range p.o.early.values {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("--early: %w", err)
		}
		// The kernel looks for microcode before it can decompress anything.
		if packed.Format(data) != "cpio" {
			return nil, fmt.Errorf("--early %s is no cpio archive that is not compressed: the kernel would not find it", name)
		}
		all.Write(data)
		// An archive begins at a multiple of four bytes, or the kernel does not find it.
		all.Write([]byte("\x00\x00\x00")[:-all.Len()&3])
	}
	if !p.o.microcode {
		return all.Bytes(), nil
	}
	entries, err := microcode(programs.Root(p.o.root))
	if err != nil {
		return nil, fmt.Errorf("--microcode: %w", err)
	}
	err = initramfs.ArchiveOf(&all, p.o.time, entries...)
	all.Write([]byte("\x00\x00\x00")[:-all.Len()&3])
	return all.Bytes(), err
}

// microcode returns the files that the kernel looks for (Documentation/arch/x86/microcode.rst):
// for each vendor all of its updates, one behind the other. The kernel takes the one for its
// processor, so the image works on every machine.
func microcode(root programs.Root) (entries []initramfs.Entry, err error) {
	for _, vendor := range []struct{ pattern, name string }{
		{"lib/firmware/amd-ucode/*.bin", "AuthenticAMD.bin"},
		{"lib/firmware/intel-ucode/??-??-??*", "GenuineIntel.bin"},
	} {
		var text strings.Builder
		for _, found := range root.Glob(vendor.pattern) {
			// A link that leads out of the root, as an absolute one would, is followed within it.
			_, end, err := root.Walk(found)
			if err != nil {
				return nil, err
			}
			data, err := os.ReadFile(root.File(end))
			if err != nil {
				return nil, err
			}
			text.Write(data)
		}
		// A PC needs the microcode of one vendor only, and the root may have no other.
		if text.Len() > 0 {
			entries = append(entries, initramfs.File{Path: path.Join("kernel/x86/microcode", vendor.name), Mode: 0o644, Text: text.String()})
		}
	}
	if len(entries) == 0 {
		return nil, errors.New("neither amd-ucode nor intel-ucode in " + root.File("lib/firmware") + ": install the microcode's package")
	}
	return entries, nil
}
