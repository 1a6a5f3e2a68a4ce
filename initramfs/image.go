package initramfs

import (
	"bufio"
	"compress/gzip"
	"io"

	"devspool/hotplug/uevent"
)

// Base returns what every image holds: /dev/null, without which a Go program
// that is started with its descriptors closed, as the kernel starts its helpers,
// aborts before its first line; and /dev/console, without which /init is started
// that way too.
func Base() []Entry {
	return []Entry{
		Node{Path: "dev/null", Mode: 0o666, Dev: uevent.Dev{Major: 1, Minor: 3}},
		Node{Path: "dev/console", Mode: 0o600, Dev: uevent.Dev{Major: 5, Minor: 1}},
	}
}

// Image writes a boot image of Base and the entries, compressed with gzip. Equal
// entries make equal bytes, as long as the same Go release writes them.
func Image(w io.Writer, entries ...Entry) error {
	z := gzip.NewWriter(w)
	if err := Archive(z, append(Base(), entries...)...); err != nil {
		return err
	}
	return z.Close()
}

// Join writes images one after the other, as the kernel takes them: it unpacks
// each over those before it, so of two files with one path the later stays. Each
// may be compressed or not.
func Join(w io.Writer, images ...io.Reader) error {
	buffered := bufio.NewWriter(w)
	for _, image := range images {
		// Each image before this one was filled up, so its own length tells what it lacks.
		n, err := io.Copy(buffered, image)
		if err != nil {
			return err
		}
		// The kernel skips zeros between images, and takes an uncompressed one only
		// where it begins at a multiple of four.
		if _, err := buffered.WriteString("\x00\x00\x00"[:-n&3]); err != nil {
			return err
		}
	}
	return buffered.Flush()
}
