package modules

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/hotplugtest"
)

// machine is what a q35 of QEMU with USB, sound, NVMe, virtio and a network card asks for.
var machine = strings.Fields(`
acpi:ACPI0006: acpi:LNXCPU: acpi:LNXPWRBN: acpi:LNXSYBUS: acpi:LNXSYSTM: acpi:PNP0000: acpi:PNP0103: acpi:PNP0303: acpi:PNP0400:
acpi:PNP0501: acpi:PNP0700: acpi:PNP0A06: acpi:PNP0A08:PNP0A03: acpi:PNP0B00: acpi:PNP0C02: acpi:PNP0C0F: acpi:PNP0F13: acpi:QEMU0002: acpi:ACPI0010:PNP0A05:
cpu:type:x86,ven0002fam000Fmod006B:feature:,0000,0001,0002,0003,0004,0005,0006,0007,0008,0009,000B,000C,000D,000E,000F,0010,0011,0013,0017,0018,0019,001A,002B,0034,003B,003D,0068,006F,0070,0072,0074,0075,0078,007A,0080,0081,0083,0089,008D,0093,0094,0096,0097,0099,009A,009B,009C,009D,009F,00C0,00C4,00C5,00C8
dmi:bvnSeaBIOS:bvr1.16.2-debian-1.16.2-1:bd04/01/2014:br0.0:svnQEMU:pnStandardPC(Q35+ICH9,2009):pvrpc-q35-7.2:cvnQEMU:ct1:cvrpc-q35-7.2:sku:
hdaudio:v1AF40022r00100101a01 hid:b0003g0001v00000627p00000001 input:b0003v0627p0001e0111-e0,1,2,3,4,k110,111,112,r8,a0,1,m4,lsfw
input:b0011v0001p0001eAB41-e0,1,4,11,14,k71,72,73,74,ram4,l0,1,2,sfw input:b0019v0000p0001e0000-e0,1,k74,ramlsfw
pci:v00001234d00001111sv00001AF4sd00001100bc03sc00i00 pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00
pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00 pci:v00001AF4d00001044sv00001AF4sd00001100bc00scFFi00
pci:v00001B36d0000000Csv00001B36sd00000000bc06sc04i00 pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30
pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02 pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00
pci:v00008086d00002918sv00001AF4sd00001100bc06sc01i00 pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01
pci:v00008086d00002930sv00001AF4sd00001100bc0Csc05i00 pci:v00008086d0000293Esv00001AF4sd00001100bc04sc03i00
pci:v00008086d000029C0sv00001AF4sd00001100bc06sc00i00 platform:Fixed platform:QEMU0002 platform:alarmtimer platform:efi-framebuffer
platform:i8042 platform:microcode platform:pcspkr platform:platform-framebuffer platform:reg-dummy platform:rtc_cmos platform:serial8250
scsi:t-0x00 scsi:t-0x05 serio:ty01pr00id00ex00 serio:ty06pr00id00ex00 usb:v0627p0001d0000dc00dsc00dp00ic03isc00ip00in00
usb:v1D6Bp0002d0601dc09dsc00dp01ic09isc00ip00in00 usb:v1D6Bp0003d0601dc09dsc00dp03ic09isc00ip00in00
usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00 virtio:d00000001v00001AF4 virtio:d00000002v00001AF4 virtio:d00000004v00001AF4
wmi:05901221-D566-11D1-B2F0-00A0C9062910 of:NfooT(null)Cbar,baz
`)

// BenchmarkResolve is one machine's aliases, from opening the tree on; without the
// kernel's part.
func BenchmarkResolve(b *testing.B) {
	tree := hotplugtest.DebianModules(b)
	for _, form := range []string{"index", "text"} {
		b.Run(form, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				t, err := OpenTree(Source{Root: tree.Root, Release: tree.Release})
				hotplugtest.Must(b, err)
				if form == "text" {
					for i := range t.tables {
						t.tables[i].noIndex = true
						t.tables[i].forget()
					}
				}
				for _, alias := range machine {
					_, _ = t.Resolve(alias, Blacklist)
				}
				t.Forget()
			}
		})
	}
	all := append([]string{"-d", tree.Root, "-S", tree.Release, "-n", "-b", "-q", "-a", "--"}, machine...)
	b.Run("modprobe-a", func(b *testing.B) {
		for range b.N {
			_ = exec.Command("modprobe", all...).Run()
		}
	})
	b.Run("modprobe-each", func(b *testing.B) {
		for range b.N {
			for _, alias := range machine {
				_ = exec.Command("modprobe", "-d", tree.Root, "-S", tree.Release, "-n", "-b", "-q", "--", alias).Run()
			}
		}
	})
}

// TestCost prints what part of a modprobe for each of a machine's aliases, and of one modprobe -a
// for all, it takes to resolve them here. It fails where a modprobe for each is no slower.
func TestCost(t *testing.T) {
	if underRace {
		t.Skip("the race detector alone takes longer")
	}
	tree := hotplugtest.DebianModules(t)
	best := func(f func()) time.Duration {
		least := time.Hour
		for range 8 {
			start := time.Now()
			f()
			least = min(least, time.Since(start))
		}
		return least
	}
	mine := best(func() {
		tree, err := OpenTree(Source{Root: tree.Root, Release: tree.Release})
		hotplugtest.Must(t, err)
		for _, alias := range machine {
			_, _ = tree.Resolve(alias, Blacklist)
		}
		tree.Forget()
	})
	common := []string{"-d", tree.Root, "-S", tree.Release, "-n", "-b", "-q"}
	together := best(func() {
		_ = exec.Command("modprobe", append(common, append([]string{"-a", "--"}, machine...)...)...).Run()
	})
	each := best(func() {
		for _, alias := range machine {
			_ = exec.Command("modprobe", append(common, "--", alias)...).Run()
		}
	})
	t.Logf("%d aliases: %v; modprobe -a %v (%.2f); modprobe for each %v (%.3f)", len(machine), mine,
		together, float64(mine)/float64(together), each, float64(mine)/float64(each))
	if mine > each { // how much less it is depends on what else the machine does
		t.Error("too slow")
	}
}
