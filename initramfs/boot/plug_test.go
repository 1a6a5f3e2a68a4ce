package boot_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
	"devspool/initramfs"
	"devspool/initramfs/boot"
)

// gadget is a device that the tests plug in and out.
type gadget struct {
	driver     string
	properties map[string]any
	shows      string // what there is one more of in /sys once its drivers are done
	waits      string // what can be waited for before it is plugged in, or ""
	node       string // the node that is there then
}

var gadgets = []gadget{
	{"usb-storage", map[string]any{"bus": "xhci.0", "drive": "disk0"}, "/sys/block/sd*", "/dev/disk/sda", "sda"},
	{"usb-audio", map[string]any{"bus": "xhci.0", "audiodev": "silence"}, "/sys/class/sound/pcm*p", "", ""},
	{"usb-kbd", map[string]any{"bus": "xhci.0"}, "/sys/class/input/event*", "", ""},
	{"usb-tablet", map[string]any{"bus": "xhci.0"}, "/sys/class/input/event*", "", ""},
	{"nvme", map[string]any{"bus": "pcie1", "drive": "disk1", "serial": "1"}, "/sys/block/nvme*n*", "DEVNAME=nvme0n1", "nvme0n1"},
	{"scsi-hd", map[string]any{"bus": "hba.0", "drive": "disk2"}, "/sys/block/sd*", "/sys/class/block/sda", "sda"},
}

// sockets is what the machine has for the gadgets.
var sockets = []string{
	"-device", "qemu-xhci,id=xhci",
	"-device", "pcie-root-port,id=pcie1", // q35's own bus takes nothing while it runs
	"-device", "virtio-scsi-pci,id=hba",
	"-audiodev", "none,id=silence",
	"-blockdev", "null-co,node-name=disk0,size=16777216,read-zeroes=on",
	"-blockdev", "null-co,node-name=disk1,size=16777216,read-zeroes=on",
	"-blockdev", "null-co,node-name=disk2,size=16777216,read-zeroes=on",
}

// drivers are the modules for the sockets and the gadgets. They are loaded
// beforehand: who loads them is not what is tested here.
var drivers = []string{
	"virtio_pci", "virtio_scsi", "xhci-pci", "nvme", "sd_mod", "sg",
	"usb-storage", "uas", "snd-usb-audio", "usbhid", "hid-generic", "evdev", "joydev",
}

// plugRules is a config of the kind that a board has.
const plugRules = `
snd/(.*)	0:29	660	=audio/%1
bus/usb/.*	0:7	664
input/event([0-9]+)	0:13	640	>input/by/%1
mouse.*	0:13	660
SUBSYSTEM=block;(sd[a-z]|nvme[0-9]+n[0-9]+)	0:6	660	>disk/%1
nvme[0-9]+	0:0	600	=nvme/%0
hidraw.*	0:0	600	!
`

// USB sticks, sound cards, keyboards and disks come and go, on the kernel that
// Debian ships and in both kinds of /dev.
func TestPlug(t *testing.T) {
	lab := boot.NewLab(t)
	o := boot.Options{
		Kernel:  boot.QEMU,
		Memory:  512,
		Modules: drivers,
		Devices: sockets,
		Files: []initramfs.Entry{
			initramfs.File{Path: "etc/mdev.conf", Mode: 0o644, Text: plugRules},
		},
	}
	lab.Run(t, o, func(g *boot.Guest) {
		for _, name := range drivers {
			g.Insmod(name)
		}
		monitor := g.Monitor()
		for _, devfs := range []string{"tmpfs", "devtmpfs"} {
			g.Logf("a %s on /dev", devfs)
			mountDev(g, devfs)
			stop := startLoop(g)
			p := plugging{Guest: g, monitor: monitor, devfs: devfs}
			p.same("at first")
			p.each()
			p.together()
			p.hasty()
			stop()
		}
	})
}

// plugging is the guest's side on one /dev.
type plugging struct {
	*boot.Guest
	monitor *boot.Monitor
	devfs   string
}

// same checks that /dev is what a fresh coldplug makes.
func (p plugging) same(when string) {
	p.Helper()
	var keeps []string
	if p.devfs == "devtmpfs" {
		keeps = []string{"hidraw0", "hidraw1"} // the rule with "!"
	}
	start := time.Now()
	sameAsFresh(p.Guest, when, "", keeps...)
	p.Logf("%s: %v", when, time.Since(start).Round(time.Millisecond))
}

// each plugs one gadget after the other in and out.
func (p plugging) each() {
	p.Helper()
	for i := range gadgets {
		waited := p.wait(gadgets[i])
		p.in(i)
		waited()
		p.same("with " + gadgets[i].driver)
		p.out(i)
		p.same("without " + gadgets[i].driver)
	}
}

// wait has "devspool wait" wait for a gadget that is not there yet. Waited returns
// when that has ended, and checks that its node is there.
func (p plugging) wait(g gadget) (waited func()) {
	p.Helper()
	if g.waits == "" {
		return func() {}
	}
	cmd := exec.Command(program, "wait", g.waits, "60")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		p.Fatal(err)
	}
	return func() {
		p.Helper()
		if err := cmd.Wait(); err != nil {
			p.Errorf("wait %s: %v\n%s", g.waits, err, &said)
		}
		if _, err := os.Stat("/dev/disk/" + g.node); err != nil {
			p.Errorf("after wait %s: %v", g.waits, err)
		}
	}
}

// together plugs in all gadgets at once, and then out.
func (p plugging) together() {
	p.Helper()
	for i := range gadgets {
		p.plug(i)
	}
	p.await("/sys/block/*d[a-z]", 2)
	p.await("/sys/block/nvme*n*", 1)
	p.await("/sys/class/sound/pcm*p", 1)
	p.same("with all")
	for i := range gadgets {
		p.unplug(i)
	}
	p.await("/sys/block/*[dn]*", 0)
	p.await("/sys/class/sound/pcm*p", 0)
	p.same("without any")
}

// hasty plugs USB gadgets in and out faster than anyone can follow.
func (p plugging) hasty() {
	p.Helper()
	// Counted before: afterwards one that has left may still be in /sys for a while.
	there := p.count(gadgets[1].shows)
	for range 5 {
		for i, gadget := range gadgets {
			if strings.HasPrefix(gadget.driver, "usb-") {
				p.plug(i)
				p.unplug(i)
			}
		}
	}
	// A guest's kernel may take that for a broken port, and then it helps to try again.
	for range 5 {
		p.plug(1)
		if kerneltest.Eventually(30*time.Second, func() bool { return p.count(gadgets[1].shows) == there+1 }) {
			break
		}
		p.unplug(1)
	}
	p.await(gadgets[1].shows, there+1)
	p.same("after haste, with " + gadgets[1].driver)
	p.unplug(1)
	p.await(gadgets[1].shows, there)
	p.same("after haste")
}

// in plugs a gadget in and waits until its drivers are done.
func (p plugging) in(i int) {
	p.Helper()
	before := p.count(gadgets[i].shows)
	p.plug(i)
	p.await(gadgets[i].shows, before+1)
}

// out unplugs a gadget and waits until /sys says so.
func (p plugging) out(i int) {
	p.Helper()
	before := p.count(gadgets[i].shows)
	p.unplug(i)
	p.await(gadgets[i].shows, before-1)
}

func (p plugging) plug(i int) {
	p.Helper()
	if err := p.monitor.Plug(gadgets[i].driver, fmt.Sprint("gadget", i), gadgets[i].properties); err != nil {
		p.Fatal(err)
	}
}

func (p plugging) unplug(i int) {
	p.Helper()
	if err := p.monitor.Unplug(fmt.Sprint("gadget", i)); err != nil {
		p.Fatal(err)
	}
}

func (p plugging) count(pattern string) int {
	p.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		p.Fatal(err)
	}
	return len(found)
}

func (p plugging) await(pattern string, n int) {
	p.Helper()
	p.Until(fmt.Sprint(n, " of ", pattern), func() error {
		if is := p.count(pattern); is != n {
			return fmt.Errorf("%d", is)
		}
		return nil
	})
}
