package broker

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/spool"
)

func init() {
	kerneltest.Roles["listener"] = func() {
		r, err := spool.Subscribe(context.Background(), spool.Subscription{Name: "listener", Filter: []string{"KIND=mine"}})
		printNumbers(r, err)
	}
}

// printNumbers prints N of each event, up to one without.
func printNumbers(r *spool.Reader, err error) {
	if err != nil {
		panic(err)
	}
	defer r.Close()
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for {
		e, err := r.Next()
		if err != nil {
			panic(err)
		}
		n, more := e.Get("N")
		if !more {
			return
		}
		fmt.Fprintln(out, n)
	}
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestUnprivileged has clients without any rights, each of them process 1 of a
// namespace, get what they asked for, and leave nothing behind.
func TestUnprivileged(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	s := h.open()
	const clients, events = 3, 1000
	var running []*exec.Cmd
	var outputs []*bytes.Buffer
	for i := range clients {
		cmd, out := kerneltest.Actor("listener"), &bytes.Buffer{}
		cmd.Stdout = out
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: uint32(65534 - i), Gid: 65534},
			Cloneflags: unix.CLONE_NEWPID,
		}
		h.must(cmd.Start())
		t.Cleanup(func() { cmd.Process.Kill() })
		running, outputs = append(running, cmd), append(outputs, out)
	}
	h.until("the clients' queues", func() bool { return len(glob(t, "/dev/events/listener-*")) == clients })
	var want strings.Builder
	for n := range events {
		h.must(s.Publish(numbered(n), []string{"KIND=" + []string{"mine", "other"}[n%2]}))
		if n%2 == 0 {
			fmt.Fprintln(&want, n)
		}
	}
	h.must(s.Put(spool.Packet{Action: "change", Devpath: "/", Env: []string{"KIND=mine"}}))
	for i, cmd := range running {
		h.must(cmd.Wait())
		if outputs[i].String() != want.String() {
			t.Errorf("a client got %.200q", outputs[i])
		}
	}
	if left := names(t, "/dev/events"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
