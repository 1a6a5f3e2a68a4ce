package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"devspool/hotplug/uevent"
	"devspool/initramfs"
)

// listImage prints the entries of an image as they stand in it: of a path that comes twice both,
// and with -l where each archive begins.
func listImage(args []string, out io.Writer) (err error) {
	long := false
	if len(args) > 0 && (args[0] == "-l" || args[0] == "--long") {
		long, args = true, args[1:]
	}
	if len(args) != 1 {
		return fmt.Errorf("%w: mkinitramfs ls [-l] IMAGE", errUsage)
	}
	file, err := openImage(args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	// An image has thousands of entries.
	w := bufio.NewWriter(out)
	last := -1
	err = walk(file, func(p place, h initramfs.Header, body io.Reader) error {
		// One is a line of the list, and none steers the terminal, whoever made the image.
		if !long {
			_, err := fmt.Fprintln(w, uevent.Printable(h.Path))
			return err
		}
		if p.archive != last {
			last = p.archive
			fmt.Fprintf(w, "# archive %d: %s at byte %d\n", p.archive+1, p.Format, p.Offset)
		}
		line, err := longLine(h, body)
		fmt.Fprintln(w, line)
		return err
	})
	if err != nil {
		err = fmt.Errorf("%s: %w", args[0], err)
	}
	return cmp.Or(err, w.Flush())
}

// longLine shows an entry as ls -ln does.
func longLine(h initramfs.Header, body io.Reader) (string, error) {
	size := fmt.Sprint(h.Size)
	// In the place of the size, which a node does not have.
	if node, _ := h.IsNode(); node {
		size = fmt.Sprintf("%d,%d", h.Major, h.Minor)
	}
	line := fmt.Sprintf("%s %5d %5d %9s %s", modeString(h.Mode), h.UID, h.GID, size, uevent.Printable(h.Path))
	if !h.IsSymlink() {
		return line, nil
	}
	target, err := io.ReadAll(io.LimitReader(body, maxTarget))
	// Some writers store the NUL at its end, too.
	return line + " -> " + uevent.Printable(strings.TrimRight(string(target), "\x00")), err
}

// modeString shows a mode in ten characters, as ls does. What is no known type has a question mark.
func modeString(mode uint32) string {
	// The four bits of S_IFMT (0170000), moved to the right by 9: in octal, three zeros less.
	kinds := map[uint32]byte{0o040: 'd', 0o100: '-', 0o120: 'l', 0o020: 'c', 0o060: 'b', 0o010: 'p', 0o140: 's'}
	s := []byte("?rwxrwxrwx")
	if k := kinds[mode>>9&0o170]; k != 0 {
		s[0] = k
	}
	for i := range 9 {
		if mode>>(8-i)&1 == 0 {
			s[i+1] = '-'
		}
	}
	for _, special := range []struct {
		bit  uint32
		at   int
		x, n byte
	}{{0o4000, 3, 's', 'S'}, {0o2000, 6, 's', 'S'}, {0o1000, 9, 't', 'T'}} {
		if mode&special.bit == 0 {
			continue
		}
		// A capital letter says that the bit for execution itself is not set.
		if s[special.at] == 'x' {
			s[special.at] = special.x
		} else {
			s[special.at] = special.n
		}
	}
	return string(s)
}

// catImage prints files of an image. It reads the image twice: only its end tells which
// entry of a path stays.
func catImage(args []string, out io.Writer) error {
	if len(args) < 2 {
		return fmt.Errorf("%w: mkinitramfs cat takes IMAGE PATH, and more paths", errUsage)
	}
	file, err := openImage(args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	all, err := readImage(file)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	// All paths are looked up before anything is printed: one that is missing is an error without output.
	var wanted []int
	for _, p := range args[1:] {
		n, err := all.find(p)
		if err != nil {
			return fmt.Errorf("%s: %s %w", args[0], p, err)
		}
		wanted = append(wanted, n)
	}
	for _, number := range wanted {
		// A compressed stream can be read from its beginning alone.
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		// The number of the entry that comes next, as readImage counts them.
		at := 0
		err := walk(file, func(_ place, h initramfs.Header, body io.Reader) error {
			at++
			if at-1 != number {
				return nil
			}
			if _, err := io.Copy(out, body); err != nil {
				return err
			}
			return errDone
		})
		if !errors.Is(err, errDone) {
			return fmt.Errorf("%s: %w", args[0], err)
		}
	}
	return nil
}

// errDone ends a walk early.
var errDone = errors.New("done")

// find returns the number of the entry that has the bytes of a file; its path may lead over links. The
// error ends a sentence that begins with the path.
func (m image) find(p string) (int, error) {
	// The last part of the path may be a link as well, and is followed.
	end, err := resolve(cleaned(p), m.links())
	if err != nil {
		return 0, err
	}
	h, ok := m[end]
	switch {
	case !ok:
		return 0, errors.New("is not in the image")
	case !h.IsFile():
		return 0, errors.New("is not a regular file")
	}
	return h.data.number, nil
}
