package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// size measures the program's file, plain and as it would lie in a boot image. The
// targets are the Makefile's.
func (b *bench) size() error {
	b.report.section("Size", "the program's file in bytes, the rival's with all its applets")
	core := contestant{name: ours, path: b.jail.program(coreFile)}
	var allowed [4]int
	if _, err := fmt.Sscan(os.Getenv(envBudgets), &allowed[0], &allowed[1], &allowed[2], &allowed[3]); err != nil {
		return fmt.Errorf("the budgets: %w", err)
	}
	if err := b.sizes("", b.contestants, allowed[0], allowed[1]); err != nil {
		return err
	}
	return b.sizes(", make core", []contestant{core}, allowed[2], allowed[3])
}

// sizes writes the rows of one build, with its budgets in bytes.
func (b *bench) sizes(what string, of []contestant, plain, packed int) error {
	bytes, small := figures{}, figures{}
	for _, c := range of {
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
	b.report.limit("plain"+what, bytes, count, float64(plain))
	b.report.limit("xz -9e"+what, small, count, float64(packed))
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
