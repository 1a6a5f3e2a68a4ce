package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// isTerminal reports whether a file is a terminal.
func isTerminal(file *os.File) bool {
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// report says what is done: a line that changes while something takes long, and at the
// end what went in.
type report struct {
	o        *options
	out      io.Writer // for what was asked for: why, summary
	errors   io.Writer
	stdout   io.Writer // for an image that is written there
	terminal bool

	start, last time.Time // when the program began, and when progress was shown last
	shown       bool      // a progress line is on the terminal
	notes       int       // how many there were, shown or not
}

// newReport returns a report to the streams s.
func newReport(o *options, s streams) *report {
	r := &report{o: o, out: s.out, stdout: s.out, errors: s.errors, terminal: s.terminal && !o.quiet, start: time.Now()}
	// Standard output is the image's.
	if o.output == "-" {
		r.out = s.errors
	}
	return r
}

// The progress line comes when something has taken this long, and changes this often.
const (
	patience = 400 * time.Millisecond
	interval = 100 * time.Millisecond
)

// progress shows how far something is, on a terminal. All is 0 where it is not known. It may be called
// as often as there is news: most calls only look at the clock.
func (r *report) progress(what string, done, all int) {
	now := time.Now()
	// In a file or a pipe the line would only be noise.
	if !r.terminal || now.Sub(r.start) < patience || now.Sub(r.last) < interval {
		return
	}
	r.last, r.shown = now, true
	count := fmt.Sprint(done)
	if all > 0 {
		count += fmt.Sprintf(" of %d", all)
	}
	fmt.Fprintf(r.errors, "\r\x1b[K%s: %s", what, count)
}

// clear takes the progress line away.
func (r *report) clear() {
	if r.shown {
		fmt.Fprint(r.errors, "\r\x1b[K")
		r.shown = false
	}
}

// note says what is missing and need not be there, where that is asked for.
func (r *report) note(format string, args ...any) {
	r.notes++
	// Without -v only their number is shown, by summary.
	if r.o.verbose {
		r.clear()
		fmt.Fprintf(r.errors, "mkinitramfs: note: "+format+"\n", args...)
	}
}

// warn says what the user should know in any case but -q. The image is made all the same.
func (r *report) warn(format string, args ...any) {
	if !r.o.quiet {
		r.clear()
		fmt.Fprintf(r.errors, "mkinitramfs: "+format+"\n", args...)
	}
}

// reasons shows each path with its size, and why it is there.
func (r *report) reasons(items []item) {
	for _, i := range items {
		size := ""
		if n := i.size(); n > 0 {
			size = fmt.Sprint(n)
		}
		path := i.path()
		// A link with its target, but without the owner, which is always root.
		if kind, rest, _ := strings.Cut(i.Entry.String(), " "); kind == "link" {
			path = rest[:strings.LastIndexByte(rest, ' ')]
		}
		fmt.Fprintf(r.out, "%9s  %-60s  %s\n", size, path, i.why)
	}
}

// summary shows what went in, by kind. Size is that of the image, or -1.
func (r *report) summary(items []item, image string, size int64) {
	if r.o.quiet {
		return
	}
	var count [len(groupNames)]int
	var bytes [len(groupNames)]int64
	for _, i := range items {
		count[i.group]++
		bytes[i.group] += i.size()
	}
	for g, name := range groupNames {
		if count[g] > 0 {
			fmt.Fprintf(r.out, "%12d bytes  %s: %d\n", bytes[g], name, count[g])
		}
	}
	if r.notes > 0 && !r.o.verbose {
		fmt.Fprintf(r.out, "%d things that need not be there are missing: -v names them\n", r.notes)
	}
	if size >= 0 {
		fmt.Fprintf(r.out, "%12d bytes  %s, %s\n", size, image, r.o.compress)
	}
}
