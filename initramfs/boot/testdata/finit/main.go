// Finit gives the kernel the modules that "modprobe -D" prints, line by line, and does nothing
// else: what that takes is the kernel's own, which no program that loads modules can save.
package main

import (
	"bytes"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	for line := range bytes.Lines(text) {
		rest, is := bytes.CutPrefix(bytes.TrimSpace(line), []byte("insmod "))
		if !is {
			continue
		}
		path, options, _ := bytes.Cut(rest, []byte(" "))
		fd, err := unix.Open(string(path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			panic(err)
		}
		_ = unix.FinitModule(fd, string(options), 0) // some find no device, as with modprobe
		unix.Close(fd)
	}
}
