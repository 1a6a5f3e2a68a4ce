package boot_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/spool"
	"devspool/initramfs"
	"devspool/initramfs/boot"
)

// rereads is how often the partition table is read anew.
const rereads = 10

// rereadConf has commands take their time, so that a partition is there again when
// its remove is done.
const rereadConf = `-if_exists=mask;sda[0-9] 0:6 660 @echo "mount $DEVNAME" >>/run/mounts
sda[0-9] 0:6 660 *echo "$ACTION $DEVNAME" >>/run/commands; sleep 0.05
`

// TestReread has the kernel take away and give back a disk's partitions again and
// again. Commands, queues and netlink groups get all that the kernel says, in its order.
func TestReread(t *testing.T) {
	lab := boot.NewLab(t)
	for _, mode := range []string{"loop", "helper"} {
		t.Run(mode, func(t *testing.T) {
			o := boot.Options{
				Modules: []string{"scsi_debug", "sd_mod"},
				Append:  []string{fewTerminals},
				Files:   []initramfs.Entry{initramfs.File{Path: "etc/mdev.conf", Mode: 0o644, Text: rereadConf}},
			}
			lab.Run(t, o, func(g *boot.Guest) { reread(g, mode == "loop") })
		})
	}
}

func reread(g *boot.Guest, loop bool) {
	mountDev(g, "tmpfs")
	if loop {
		stop := startLoop(g, "-O", "4")
		defer stop()
	} else {
		startHelper(g)
		g.Write("/sys/devices/virtual/mem/null/uevent", "change")
		awaitRoot(g)
		awaitNoServer(g)
	}
	queue := makeQueue(g)
	kernel, group := listenTo(g, 1), listenTo(g, 4)
	g.Insmod("sd_mod")
	g.Insmod("scsi_debug", "dev_size_mb=8", "num_tgts=1", "max_luns=1", "num_parts=2")
	g.Until("the partitions", func() error { _, err := os.Stat("/dev/sda2"); return err })
	for range rereads {
		g.Command("/bin/busybox", "blockdev", "--rereadpt", "/dev/sda")
	}
	said := heard(g, kernel)
	for _, part := range []string{"sda1", "sda2"} {
		if n := len(said[part]); n != 2*rereads+1 {
			g.Errorf("of %s the kernel said %q", part, said[part])
		}
	}
	of := func(read func() map[string][]string) func() error {
		return func() error {
			got := read()
			for _, part := range []string{"sda1", "sda2"} {
				if !slices.Equal(got[part], said[part]) {
					return fmt.Errorf("of %s %q, want %q", part, got[part], said[part])
				}
			}
			return nil
		}
	}
	g.Until("each command once, in order", of(func() map[string][]string { return commandsOf("/run/commands") }))
	for part, mounts := range commandsOf("/run/mounts") {
		if len(mounts) != rereads+1 {
			g.Errorf("%s was mounted %d times", part, len(mounts))
		}
	}
	g.Until("each event in the queue", of(func() map[string][]string { return queued(g, queue) }))
	if loop {
		if err := of(func() map[string][]string { return heard(g, group) })(); err != nil {
			g.Errorf("to group 4: %v", err)
		}
	}
	sameAsFresh(g, "in the end", "")
	// The loop would say at its end that a queue is left.
	gone := filepath.Join(filepath.Dir(queue), ".gone")
	if err := os.Rename(queue, gone); err != nil {
		g.Fatal(err)
	}
	os.RemoveAll(gone)
	noComplaints(g)
}

func listenTo(g *boot.Guest, group uint32) *kerneltest.Listener {
	g.Helper()
	l, err := kerneltest.ListenTo(group)
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() { l.Close() })
	return l
}

// heard returns the actions of each node's events that came to a listener so far.
func heard(g *boot.Guest, l *kerneltest.Listener) map[string][]string {
	g.Helper()
	actions := map[string][]string{}
	for {
		msg, err := l.Next(0)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return actions
		}
		if err != nil {
			g.Fatal(err)
		}
		var action, name string
		for kv := range strings.SplitSeq(string(msg), "\x00") {
			if value, is := strings.CutPrefix(kv, "ACTION="); is {
				action = value
			}
			if value, is := strings.CutPrefix(kv, "DEVNAME="); is {
				name = value
			}
		}
		actions[name] = append(actions[name], action)
	}
}

// commandsOf reads lines of what was done and a node's name.
func commandsOf(file string) map[string][]string {
	actions := map[string][]string{}
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		action, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		actions[name] = append(actions[name], action)
	}
	return actions
}

// queued returns the actions of each node's events in a queue.
func queued(g *boot.Guest, queue string) map[string][]string {
	g.Helper()
	files, err := os.ReadDir(queue) // by name
	if err != nil {
		g.Fatal(err)
	}
	actions := map[string][]string{}
	for _, file := range files {
		if strings.HasPrefix(file.Name(), ".") {
			continue
		}
		p, err := spool.Parse([]byte(g.Read(queue + "/" + file.Name())))
		if err != nil {
			g.Fatalf("%s: %v", file.Name(), err)
		}
		name, _ := p.Get("DEVNAME")
		name = strings.TrimPrefix(name, "/dev/")
		actions[name] = append(actions[name], p.Action)
	}
	return actions
}
