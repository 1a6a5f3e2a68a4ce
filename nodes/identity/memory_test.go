package identity

import (
	"fmt"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/uevent"
)

// TestMemory shows what is read again at a further event of a device, and what is not.
func TestMemory(t *testing.T) {
	s := hotplugtest.NewSysfs(t)
	const pci, eth = "/devices/pci0000:00/0000:00:03.0", "/devices/pci0000:00/0000:00:03.0/net/eth0"
	s.Add(pci, "pci", "")
	s.Add(eth, "net", "")
	write := func(file, text string) { hotplugtest.WriteFile(t, s.Path(eth+"/"+file), text+"\n") }
	for file, text := range map[string]string{"type": "1", "iflink": "2", "address": "02:00:00:00:00:01", "addr_assign_type": "0"} {
		write(file, text)
	}
	number := 0
	event := func(action, devpath, subsystem, index string) *uevent.Event {
		number++
		e, err := uevent.FromEnviron([]string{"ACTION=" + action, "DEVPATH=" + devpath, "SUBSYSTEM=" + subsystem, "IFINDEX=" + index, fmt.Sprint("SEQNUM=", number)})
		hotplugtest.Must(t, err)
		return e
	}
	p := &Prober{Sys: s.FS}
	first := p.Identify(event("add", eth, "net", "2"))
	if first.Get("ID_NET_NAME_MAC") != "enx020000000001" || first.Get("ID_NET_NAME_PATH") == "" {
		t.Fatal(first.Properties)
	}
	if p.Identify(event("add", eth, "net", "2")) == first {
		t.Error("a device is remembered from its first event on, and a scan has no other")
	}
	first = p.Identify(event("add", eth, "net", "2"))
	if p.Identify(event("add", eth, "net", "2")) != first {
		t.Error("the same event has all of it read again")
	}
	if p.Identify(event("change", eth, "net", "2")) == first {
		t.Error("another action has nothing read")
	}
	write("address", "02:00:00:00:00:02")
	if got := p.Identify(event("add", eth, "net", "2")).Get("ID_NET_NAME_MAC"); got != "enx020000000002" {
		t.Errorf("another address: %q", got)
	}
	write("iflink", "3")
	if got := p.Identify(event("add", eth, "net", "3")); got == first || got.Get("ID_NET_NAME_MAC") == "" {
		t.Errorf("another interface of that name: %v", got.Properties)
	}
	// A device that no rule is for has the link by its numbers; another one of that path has others.
	for _, minor := range []string{"3", "3", "3", "4"} {
		e, err := uevent.FromEnviron([]string{"ACTION=add", "DEVPATH=/devices/virtual/mem/x", "SUBSYSTEM=mem", "MAJOR=1", "MINOR=" + minor})
		hotplugtest.Must(t, err)
		if l := p.Identify(e).Links; len(l) != 1 || l[0].Path != "char/1:"+minor {
			t.Errorf("minor %s: %v", minor, l)
		}
	}
	// Devices that have one place in the memory are not taken for each other.
	for range 2 {
		for i := range 3 * len(p.memory) {
			e, err := uevent.FromEnviron([]string{"ACTION=add", fmt.Sprint("DEVPATH=/devices/virtual/mem/", i), "SUBSYSTEM=mem", "MAJOR=1", fmt.Sprint("MINOR=", i)})
			hotplugtest.Must(t, err)
			for range 3 { // by then it is remembered
				if got, want := p.Identify(e).Links[0].Path, fmt.Sprint("char/1:", i); got != want {
					t.Fatalf("%s in the place of %s", got, want)
				}
			}
		}
	}
}
