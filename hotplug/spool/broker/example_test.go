package broker_test

import (
	"fmt"
	"os"

	"devspool/hotplug/spool"
	"devspool/hotplug/spool/broker"
)

// A program that passes on an event, say of a container, to all clients.
func ExampleBroker_Put() {
	dir, err := os.MkdirTemp("", "spool")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	// On a running system: Private "/dev/.devspool", Events spool.DefaultEvents, Join.
	b, err := broker.Open(broker.Options{Private: dir + "/private", Events: dir + "/events"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close()

	// What a client does in a shell: make a queue that its process owns.
	queue := fmt.Sprintf("%s/events/shell-%d", dir, os.Getpid())
	if err := os.Mkdir(queue, 0o700); err != nil {
		fmt.Println(err)
		return
	}
	if err := b.Put(spool.Packet{Action: "change", Devpath: "/devices/a", Env: []string{"ACTION=change", "DEVPATH=/devices/a"}}); err != nil {
		fmt.Println(err)
		return
	}
	text, err := os.ReadFile(queue + "/head")
	fmt.Printf("%s%v\n", text, err)
	// Output:
	// change@/devices/a
	// ACTION=change
	// DEVPATH=/devices/a
	// <nil>
}
