// Mkinitramfs packs a boot image around devspool: see packer, the program itself.
//
// The packer is a module of its own, since it has a dependency that the boot binary's
// module shall not have. The go command does not run a program of another module; so
// this one builds it and runs it:
//
//	go run ./initramfs/mkinitramfs --help
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

// exitSystem is the packer's exit code where nothing works.
const exitSystem = 111

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	dir, err := os.MkdirTemp("", "mkinitramfs-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "mkinitramfs")
	if err := build(binary); err != nil {
		return fail(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// A signal from the keyboard reaches the packer too, which ends; then this does.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	err = cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.Exited() {
		return ended.ExitCode()
	}
	if err != nil {
		return fail(err)
	}
	return 0
}

// build builds the packer from the source around this directory.
func build(binary string) error {
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "devspool/initramfs/mkinitramfs").Output()
	if err != nil {
		return fmt.Errorf("devspool's source is not here: run this in its directory: %w", err)
	}
	source := filepath.Join(strings.TrimSpace(string(out)), "packer")
	cmd := exec.Command("go", "build", "-C", source, "-trimpath", "-o", binary, ".")
	// For this machine, and by the packer's own go.mod, whatever the environment says
	// of the image's program.
	cmd.Env = append(os.Environ(), "GOOS=", "GOARCH=", "GOARM=", "GOWORK=off", "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "mkinitramfs:", err)
	return exitSystem
}
