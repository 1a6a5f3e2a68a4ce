package systemtest

import (
	"bufio"
	"os"
	"strings"
	"time"

	"devspool/hotplug/kerneltest"
)

// hosts is what the devpaths of the tests' own disks begin with, and of no others.
const hosts = "/devices/pci0000:00/host"

// strange reports whether devpath is that of a block device which is not a test's own.
// The kernel's events of block devices reach every network namespace, so whatever
// anybody does with a loop device of this machine reaches the tests' loops too, and
// the clients of these.
func strange(devpath string) bool {
	return strings.Contains(devpath, "/block/") && !strings.HasPrefix(devpath, hosts) ||
		strings.HasPrefix(devpath, "/devices/virtual/bdi/")
}

// DevpathOf returns the DEVPATH of a message.
func devpathOf(msg string) string {
	_, rest, _ := strings.Cut("\x00"+msg, "\x00DEVPATH=")
	devpath, _, _ := strings.Cut(rest, "\x00")
	return devpath
}

// nextOf waits for the next message that is about the board's devices.
func (b *board) nextOf(l *kerneltest.Listener, timeout time.Duration) (string, error) {
	for {
		msg, err := l.Next(timeout)
		if err != nil || !strange(devpathOf(string(msg))) {
			return string(msg), err
		}
	}
}

// output reads what a loop writes to its -o.
type output struct {
	file *os.File
	text *bufio.Reader
}

func newOutput(file *os.File) *output { return &output{file, bufio.NewReader(file)} }

// next waits for the next event that is about the board's devices, with the NUL that
// ends it.
func (o *output) next() (string, error) {
	_ = o.file.SetReadDeadline(time.Now().Add(patience))
	var msg []byte
	for {
		part, err := o.text.ReadBytes(0)
		msg = append(msg, part...)
		if err != nil {
			return string(msg), err
		}
		if len(part) > 1 {
			continue
		}
		if !strange(devpathOf(string(msg))) {
			return string(msg), nil
		}
		msg = nil
	}
}
