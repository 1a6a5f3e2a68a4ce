package modules

import "strings"

// aside are directories of a kernel's modules that hold no driver which a disk, or the
// way to one, could need, each between two blanks. A module that lies elsewhere, or in a
// directory that is not known here, may be on the way.
const aside = " drivers/accel/ drivers/bluetooth/ drivers/edac/ drivers/gpu/ drivers/hid/ drivers/hwmon/ drivers/iio/" +
	" drivers/input/ drivers/isdn/ drivers/leds/ drivers/media/ drivers/net/ drivers/power/ drivers/thermal/ drivers/video/" +
	" drivers/watchdog/ net/ sound/ arch/x86/kvm/ drivers/platform/x86/ drivers/parport/ drivers/usb/serial/ drivers/usb/misc/" +
	" drivers/usb/class/ drivers/comedi/ drivers/infiniband/ "

// leadsToDisk reports whether a disk may need the module. The directories of its path are
// compared from the innermost outwards. What does not lie below kernel/, such as updates/ and
// extra/, may be the driver of anything, and counts as needed: loading a module early without
// need costs time, while holding one back by mistake delays the root file system.
func (s *Step) leadsToDisk() bool {
	_, path, found := strings.Cut(s.Path, "/kernel/")
	for rest := path; found && rest != ""; {
		i := strings.LastIndexByte(rest, '/')
		if i < 0 {
			break
		}
		if rest = rest[:i]; strings.Contains(aside, " "+rest+"/ ") {
			return false
		}
	}
	return true
}
