package systemtest

import "strings"

// The kernel's events of block devices reach every network namespace, so whatever
// anybody does with a loop device of this machine reaches the tests' loops too, and
// the clients of these.

// hosts is what the devpaths of the tests' own disks begin with, and of no others.
const hosts = "/devices/pci0000:00/host"

// strange reports whether devpath is that of a block device which is not a test's own.
func strange(devpath string) bool {
	return strings.Contains(devpath, "/block/") && !strings.HasPrefix(devpath, hosts)
}

// devpathOf returns the DEVPATH of a message.
func devpathOf(msg string) string {
	_, rest, _ := strings.Cut("\x00"+msg, "\x00DEVPATH=")
	devpath, _, _ := strings.Cut(rest, "\x00")
	return devpath
}
