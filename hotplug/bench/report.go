package main

import (
	"fmt"
	"io"
	"strconv"
)

// report writes the table as the figures come in and remembers the targets.
type report struct {
	out    io.Writer
	met    int
	missed []string // rows that missed their target
	absent []string // rows whose target could not be judged
	part   string   // the section that is being written
	builds []string // other builds of ours, which take part
}

func newReport(out io.Writer) *report { return &report{out: out} }

// row is the layout of the table.
const row = "  %-52s %12s %12s %7s  %-14s %s\n"

// section starts a part of the table; format tells how it was measured.
func (r *report) section(part, format string, args ...any) { r.beside(rival, part, format, args...) }

// beside is section where the second column is another's.
func (r *report) beside(other, part, format string, args ...any) {
	r.part = part
	fmt.Fprintf(r.out, "\n%s: %s\n", part, fmt.Sprintf(format, args...))
	fmt.Fprintf(r.out, row, "", ours, other, "ratio", "target", "")
}

// note writes a line of information.
func (r *report) note(format string, args ...any) {
	fmt.Fprintf(r.out, "  "+format+"\n", args...)
}

// ratio writes a row whose target is our share of what the rival needs; 0 stands
// for no target.
func (r *report) ratio(label string, f figures, unit unit, target float64) {
	goal, verdict := "", ""
	share, known := f[ours]/f[rival], f[rival] > 0
	if target > 0 {
		goal = "ratio <= " + strconv.FormatFloat(target, 'f', -1, 64)
		verdict = r.judge(label, known, share <= target)
	}
	r.row(label, f, unit, goal, verdict)
}

// limit writes a row whose target is a figure of our own.
func (r *report) limit(label string, f figures, unit unit, target float64) {
	_, known := f[ours]
	r.row(label, f, unit, "<= "+unit(target), r.judge(label, known, f[ours] <= target))
}

// row writes a row, with a dash for what was not measured, and a line for each other build of
// ours that took part.
func (r *report) row(label string, f figures, unit unit, goal, verdict string) {
	text := func(name string) string {
		if v, measured := f[name]; measured {
			return unit(v)
		}
		return "-"
	}
	share := "-"
	if f[rival] > 0 {
		share = strconv.FormatFloat(f[ours]/f[rival], 'f', 2, 64)
	}
	fmt.Fprintf(r.out, row, label, text(ours), text(rival), share, goal, verdict)
	for _, name := range r.builds {
		if v, measured := f[name]; measured {
			r.note("  %s: %s; this one needs %.2f of it", name, unit(v), f[ours]/v)
		}
	}
}

// judge notes whether a row met its target, for summary, and returns the word for it. What was
// not measured is neither met nor missed.
func (r *report) judge(label string, known, met bool) string {
	label = r.part + ": " + label
	switch {
	case !known:
		r.absent = append(r.absent, label)
		return "NOT MEASURED"
	case !met:
		r.missed = append(r.missed, label)
		return "MISSED"
	}
	r.met++
	return "ok"
}

// summary ends the table with what the targets came to.
func (r *report) summary() {
	fmt.Fprintf(r.out, "\n%d targets met, %d missed, %d not measured\n", r.met, len(r.missed), len(r.absent))
	for _, label := range r.missed {
		fmt.Fprintln(r.out, "MISSED:", label)
	}
	for _, label := range r.absent {
		fmt.Fprintln(r.out, "NOT MEASURED:", label)
	}
}

// unit writes a figure.
type unit func(float64) string

func milliseconds(seconds float64) string {
	return strconv.FormatFloat(seconds*1e3, 'f', 2, 64) + " ms"
}

func microseconds(seconds float64) string {
	return strconv.FormatFloat(seconds*1e6, 'f', 2, 64) + " us"
}

func mebibytes(bytes float64) string { return strconv.FormatFloat(bytes/(1<<20), 'f', 2, 64) + " MiB" }

// count writes a number with its thousands set apart.
func count(n float64) string {
	digits := strconv.FormatInt(int64(n), 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
