package sink

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/scheduler"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Table writes each event at its end as a row of a table for a person.
type Table struct {
	fd    int
	start sys.Time // from which TIME counts
	rows  int      // written so far
}

// headInterval is after how many rows the heads are written again.
const headInterval = 50

// columns are the heads of the table and their widths in bytes. The last one takes the rest
// of the line.
var columns = []struct {
	head  string
	width int
}{{"TIME", 9}, {"ACTION", 7}, {"DEVICE", 8}, {"NODE", 22}, {"MODE", 5}, {"OWNER", 7}, {"DEVPATH, AND WHAT ELSE WAS DONE", 0}}

// NewTable returns a Table that writes to the descriptor fd.
func NewTable(fd int) *Table { return &Table{fd: fd, start: sys.Now()} }

// Sink returns a Sink that writes the rows.
func (t *Table) Sink() scheduler.Sink { return scheduler.Sink{Done: t.row} }

// row writes the row of an event. Of several nodes it shows the first; mode and owner are for a node
// that is made, not for one that is removed.
func (t *Table) row(e *uevent.Event, p *nodes.Plan) {
	cells := []string{t.clock(), e.Action, deviceName(e), "-", "", "", rest(e, p)}
	if len(p.Nodes) > 0 {
		n := &p.Nodes[0]
		cells[3] = n.Path
		if p.Work == nodes.Create {
			cells[4] = nodes.Octal(n.Mode)
			cells[5] = n.Owner()
		}
	}
	// Before the first row, and again when the heads may have left the screen.
	if t.rows%headInterval == 0 {
		t.write(heads())
	}
	t.rows++
	t.write(cells)
}

// clock returns the time since the start in seconds, with three decimals.
func (t *Table) clock() string {
	ms := t.start.Age().Milliseconds()
	frac := strconv.FormatInt(ms%1000, 10)
	return strconv.FormatInt(ms/1000, 10) + "." + strings.Repeat("0", 3-len(frac)) + frac
}

// heads returns the cells of the head row.
func heads() []string {
	cells := make([]string, len(columns))
	for i, c := range columns {
		cells[i] = c.head
	}
	return cells
}

// deviceName returns the numbers of the device, or its subsystem where it has none.
func deviceName(e *uevent.Event) string {
	if e.Dev.IsZero() {
		return e.Subsystem
	}
	return e.Dev.String()
}

// rest returns the text of the last column: the devpath, and what has no column.
func rest(e *uevent.Event, p *nodes.Plan) string {
	text := e.Devpath
	if p.Late {
		text += "  (too late: /sys says otherwise)"
	}
	for i := range p.Links {
		l := &p.Links[i]
		text += "  " + l.Path + " -> " + nodes.Relative(l.Path, l.Target)
	}
	for i := range p.Commands {
		text += "  run: " + p.Commands[i].Text
	}
	if p.Firmware != "" {
		text += "  firmware: " + p.Firmware
	}
	return text
}

// write writes one row. A failure is ignored: there is no other place to show the table.
func (t *Table) write(cells []string) {
	var b strings.Builder
	for i, cell := range cells {
		cell = uevent.Printable(cell)
		b.WriteString(cell)
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", max(1, columns[i].width-len(cell))+1))
		}
	}
	_, _ = unix.Write(t.fd, []byte(strings.TrimRight(b.String(), " ")+"\n"))
}
