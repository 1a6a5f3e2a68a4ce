package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// size measures the program's file, plain and as it would lie in a boot image.
func (b *bench) size() error {
	const plain, packed = 2_300_000, 820_000
	b.report.section("Size", "the program's file in bytes, the rival's with all its applets")
	bytes, small := figures{}, figures{}
	for _, c := range b.contestants {
		info, err := os.Stat(c.path)
		if err != nil {
			return err
		}
		bytes[c.name] = float64(info.Size())
		packed, err := b.xz(c.path)
		if errors.Is(err, exec.ErrNotFound) {
			continue // said at the start
		}
		if err != nil {
			return err
		}
		small[c.name] = float64(packed)
	}
	b.report.limit("plain", bytes, count, plain)
	b.report.limit("xz -9e", small, count, packed)
	return nil
}

// xz returns how large a file is when it is packed as tightly as can be.
func (b *bench) xz(path string) (int, error) {
	cmd := b.jail.command(contestant{path: "xz"}, []string{"-9e", "-T1", "-k", "-c", path})
	cmd.Stdout = nil
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("xz: %w", err)
	}
	return len(out), nil
}
