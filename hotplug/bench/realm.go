package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/uevent"
)

// realm is a network namespace whose devices come and go as the bench likes: taps of
// macvlan(4), each of which has a node. A sysfs shows them, and the events that the
// kernel sends of them reach nobody outside, so that only what the bench sends counts.
type realm struct {
	sys     string // the directory that its sysfs is mounted on
	do      chan func()
	kernel  *kerneltest.Listener // hears its events
	devices int                  // how many are there
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
		if r.kernel, err = kerneltest.NewListener(); err != nil {
			return err
		}
		return os.NewSyscallError("mount", unix.Mount("sysfs", sys, "sysfs", 0, ""))
	})
	if err == nil {
		_, err = r.have(1)
	}
	if err == nil {
		err = r.clear()
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *realm) close() error {
	close(r.do)
	if r.kernel != nil {
		r.kernel.Close()
	}
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

// have has n devices be there where none is, or none where some are. It returns what
// the kernel says of each that came or went. Nothing of that is read from the sysfs,
// where a contestant is to be the first that looks.
func (r *realm) have(n int) ([]kerneltest.Event, error) {
	if n == 0 {
		n, r.devices = r.devices, 0
		return r.heard(n, r.ip("link del near\n"))
	}
	var commands strings.Builder
	commands.WriteString("link add near type veth peer name far\n")
	for i := range n {
		fmt.Fprintf(&commands, "link add link near name mv%d type macvtap\n", i)
	}
	r.devices = n
	return r.heard(n, r.ip(commands.String()))
}

// heard returns the n events about nodes that the kernel has sent, unless something
// went wrong before.
func (r *realm) heard(n int, err error) (events []kerneltest.Event, _ error) {
	for err == nil {
		var message []byte
		if message, err = r.kernel.Next(0); err != nil {
			break
		}
		e, err := uevent.ParseMessage(message)
		if err != nil {
			return nil, err
		}
		if e.Dev.IsZero() {
			continue
		}
		var vars []string
		for kv := range e.Env() {
			switch key, _, _ := strings.Cut(kv, "="); key {
			case "ACTION", "DEVPATH", "SEQNUM":
			default:
				vars = append(vars, kv)
			}
		}
		events = append(events, kerneltest.Event{Action: e.Action, Devpath: e.Devpath, Vars: vars})
	}
	if err != os.ErrDeadlineExceeded {
		return nil, err
	}
	if len(events) != n {
		return nil, fmt.Errorf("the kernel told of %d devices, not of %d", len(events), n)
	}
	return events, nil
}

// clear removes all devices.
func (r *realm) clear() error {
	if r.devices == 0 {
		return nil
	}
	_, err := r.have(0)
	return err
}

func (r *realm) ip(commands string) error {
	return r.within(func() error {
		cmd := exec.Command("ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(commands)
		return output(cmd)
	})
}
