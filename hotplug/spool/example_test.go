package spool_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/spool"
	"devspool/hotplug/spool/broker"
	"devspool/hotplug/uevent"
)

// publisher makes a spool in a new directory, as the daemon makes the one in /dev, and
// returns the root for queues, and a function that publishes an event.
func publisher() (root string, publish func(env ...string), end func()) {
	dir, err := os.MkdirTemp("", "spool")
	if err != nil {
		panic(err)
	}
	root = dir + "/events"
	b, err := broker.Open(broker.Options{Private: dir + "/private", Events: root})
	if err != nil {
		panic(err)
	}
	publish = func(env ...string) {
		e, err := uevent.FromEnviron(env)
		if err == nil {
			err = b.Publish(e, nil)
		}
		if err != nil {
			panic(err)
		}
	}
	return root, publish, func() { b.Close(); os.RemoveAll(dir) }
}

// A client that hears of every disk.
func ExampleSubscribe() {
	root, publish, end := publisher()
	defer end()

	// On a running system leave out Root: the queues are in /dev/events.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	disks, err := spool.Subscribe(ctx, spool.Subscription{Root: root, Filter: []string{"subsystem=block/disk"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer disks.Close() // and so remove the queue

	publish("ACTION=add", "DEVPATH=/devices/virtual/net/eth0", "SUBSYSTEM=net")
	publish("ACTION=add", "DEVPATH=/devices/virtual/block/loop0", "SUBSYSTEM=block", "DEVTYPE=disk", "DEVNAME=loop0")

	event, err := disks.Next()
	if err != nil {
		fmt.Println(err)
		return
	}
	name, _ := event.Get("DEVNAME")
	fmt.Println(event.Action, event.Devpath, name)
	// Output: add /devices/virtual/block/loop0 loop0
}

// A client with a poll loop of its own waits for the descriptor and reads until nothing
// is left.
func ExampleReader_Fd() {
	root, publish, end := publisher()
	defer end()
	r, err := spool.Subscribe(context.Background(), spool.Subscription{Root: root})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	publish("ACTION=add", "DEVPATH=/devices/a")
	publish("ACTION=remove", "DEVPATH=/devices/a")

	fds := []unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 60_000); err != nil || n == 0 {
		fmt.Println("no event", err)
		return
	}
	for {
		event, err := r.TryNext()
		if err == spool.ErrEmpty {
			break
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(event.Action)
	}
	// Output:
	// add
	// remove
}

// A sticky queue keeps its events while no process reads it.
func ExampleNewReader() {
	root, publish, end := publisher()
	defer end()
	r, err := spool.Subscribe(context.Background(), spool.Subscription{Root: root, Name: "backup", Sticky: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	path := r.Path() // to be kept for the next start of the program
	r.Close()
	publish("ACTION=add", "DEVPATH=/devices/a")

	r, err = spool.NewReader(context.Background(), path)
	if err != nil {
		fmt.Println(err)
		return
	}
	event, err := r.Next()
	fmt.Println(event.Action, event.Devpath, err)
	r.Close()
	os.RemoveAll(path) // a sticky queue is removed by its user
	// Output: add /devices/a <nil>
}

func ExampleQueues() {
	root, publish, end := publisher()
	defer end()
	r, err := spool.Subscribe(context.Background(), spool.Subscription{Root: root, Name: "viewer"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	publish("ACTION=add", "DEVPATH=/devices/a")

	queues, err := spool.Queues(root)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, q := range queues {
		fmt.Println(q.Name == fmt.Sprint("viewer-", os.Getpid()), q.PID == os.Getpid(), q.Unread)
	}
	// Output: true true 1
}

// An event file as a shell would read it.
func ExampleParse() {
	p, err := spool.Parse([]byte("add@/devices/virtual/block/loop0\nACTION=add\nDEVPATH=/devices/virtual/block/loop0\nDEVNAME=/dev/loop0\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	name, _ := p.Get("DEVNAME")
	fmt.Println(p.Action, p.Devpath, name)
	// Output: add /devices/virtual/block/loop0 /dev/loop0
}

func ExampleFilter_Match() {
	// Conditions with the same key are alternatives; of different keys, all must hold.
	f, err := spool.ParseFilter("subsystem=block\nsubsystem=net\nACTION=add\n")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, text := range []string{
		"add@/devices/a\nSUBSYSTEM=net\n",
		"remove@/devices/a\nSUBSYSTEM=net\n",
		"add@/devices/a\nSUBSYSTEM=mem\n",
	} {
		p, _ := spool.Parse([]byte(text))
		fmt.Println(f.Match(p))
	}
	// Output:
	// true
	// false
	// false
}
