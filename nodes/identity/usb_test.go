package identity

import (
	"slices"
	"testing"

	"devspool/hotplug/hotplugtest"
)

// TestUSBLocked shows that the strings of a USB device, which the kernel may have locked, are for
// Probe, which runs beside what must go on, and that Unread does without.
func TestUSBLocked(t *testing.T) {
	t.Parallel()
	const device = "/devices/pci0/usb1/1-1"
	s := hotplugtest.NewSysfs(t)
	s.Add(device, "usb", "189:1", "DEVTYPE=usb_device", "DEVNAME=bus/usb/001/002")
	s.Add(device+"/1-1:1.0", "usb", "", "DEVTYPE=usb_interface")
	for file, text := range map[string]string{"idVendor": "1d6b", "idProduct": "0002", "product": "Hub", "manufacturer": "M", "serial": "S1"} {
		hotplugtest.WriteFile(t, s.Path(device+"/"+file), text+"\n")
	}
	p := &Prober{Sys: s.FS}
	for path, want := range map[string]bool{device: true, device + "/1-1:1.0": false} {
		if got := p.NeedsContents(s.NewEvent("add", path)); got != want {
			t.Errorf("%s: to be read: %v", path, got)
		}
	}
	e := s.NewEvent("add", device)
	if p.NeedsContents(s.NewEvent("remove", device)) {
		t.Error("what has gone is to be read")
	}
	id := p.Unread(e)
	if id.Get("ID_MODEL_ID") != "0002" || id.Get("ID_MODEL") != "0002" || id.Get("ID_SERIAL_SHORT") != "" {
		t.Errorf("%q", id.Properties)
	}
	id = p.Probe(e)
	if !slices.Contains(id.Properties, "ID_SERIAL=M_Hub_S1") {
		t.Errorf("%q", id.Properties)
	}
}
