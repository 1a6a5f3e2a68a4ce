package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// realm is a network namespace whose devices come and go as the bench likes: taps of
// macvlan(4), each of which has a node. A sysfs shows them, and only a listener in
// that namespace gets their events.
type realm struct {
	sys     string // the directory that its sysfs is mounted on
	do      chan func()
	devices int // how many are there
}

// newRealm mounts the sysfs of a new network namespace on a directory.
func newRealm(sys string) (*realm, error) {
	r := &realm{sys: sys, do: make(chan func())}
	go func() {
		runtime.LockOSThread() // and never unlock it: the thread ends with the namespace
		for f := range r.do {
			f()
		}
	}()
	err := r.within(func() (err error) {
		if err := os.MkdirAll(sys, 0o755); err != nil {
			return err
		}
		// Mounts are shared with this process, other than with what unshare(2) alone makes.
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		return os.NewSyscallError("mount", unix.Mount("sysfs", sys, "sysfs", 0, ""))
	})
	if err == nil {
		err = r.grow()
	}
	if err == nil {
		err = r.clear()
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// close unmounts the sysfs and ends the thread, with which the namespace goes, and its devices.
func (r *realm) close() error {
	close(r.do)
	err := unix.Unmount(r.sys, unix.MNT_DETACH)
	if err == unix.EINVAL { // it was not mounted
		err = nil
	}
	return os.NewSyscallError("umount", err)
}

// within runs f in the namespace.
func (r *realm) within(f func() error) error {
	done := make(chan error)
	r.do <- func() { done <- f() }
	return <-done
}

// grow adds a batch of devices.
func (r *realm) grow() error {
	var commands strings.Builder
	if r.devices == 0 {
		commands.WriteString("link add near type veth peer name far\n")
	}
	for range batch {
		r.devices++
		fmt.Fprintf(&commands, "link add link near name mv%06d type macvtap\n", r.devices)
	}
	return r.ip(commands.String())
}

// clear removes all devices.
func (r *realm) clear() error {
	if r.devices == 0 {
		return nil
	}
	r.devices = 0
	return r.ip("link del near\n")
}

// ip runs many commands in one process of ip(8): one for each device would take far longer.
func (r *realm) ip(commands string) error {
	return r.within(func() error {
		cmd := exec.Command("ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(commands)
		return output(cmd)
	})
}
