package systemtest

import (
	"bufio"
	"bytes"
	"os"
	"strings"
	"time"

	"devspool/hotplug/kerneltest"
)

// foreign reports whether a devpath is that of a real disk, of which the kernel tells
// every network namespace: no board has such.
func foreign(devpath string) bool {
	return strings.HasPrefix(devpath, "/devices/virtual/block/") || strings.HasPrefix(devpath, "/devices/virtual/bdi/")
}

// foreignMessage is foreign for a message of the kernel's form.
func foreignMessage(msg []byte) bool {
	head, _, _ := bytes.Cut(msg, []byte{0})
	_, devpath, _ := strings.Cut(string(head), "@")
	return foreign(devpath)
}

// nextOf waits for the next message that is about the board's devices.
func (b *board) nextOf(l *kerneltest.Listener, timeout time.Duration) (string, error) {
	for {
		msg, err := l.Next(timeout)
		if err != nil || !foreignMessage(msg) {
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
		if !foreignMessage(msg) {
			return string(msg), nil
		}
		msg = nil
	}
}
