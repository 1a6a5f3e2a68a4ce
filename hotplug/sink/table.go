package sink

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Table shows each event at its end as a row that a person can read.
type Table struct {
	fd    int
	start sys.Time
	rows  int
}

// columns are the heads of the table and their widths; the last has what is left.
var columns = []struct {
	head  string
	width int
}{{"TIME", 9}, {"ACTION", 7}, {"DEVICE", 8}, {"NODE", 22}, {"MODE", 5}, {"OWNER", 7}, {"DEVPATH, AND WHAT ELSE WAS DONE", 0}}

// NewTable returns a Table that writes to the descriptor fd.
func NewTable(fd int) *Table { return &Table{fd: fd, start: sys.Now()} }

// Row writes the row of one event. It has the form of Sink.Done.
func (t *Table) Row(e *uevent.Event, p *nodes.Plan) {
	cells := []string{t.clock(), e.Action, deviceName(e), "-", "", "", rest(e, p)}
	if len(p.Nodes) > 0 {
		n := p.Nodes[0]
		cells[3] = n.Path
		if p.Work == nodes.Create {
			cells[4] = nodes.Octal(n.Mode)
			cells[5] = n.Owner()
		}
	}
	if t.rows%50 == 0 {
		t.write(heads())
	}
	t.rows++
	t.write(cells)
}

// clock returns the seconds since the start, to the millisecond.
func (t *Table) clock() string {
	ms := t.start.Age().Milliseconds()
	frac := strconv.FormatInt(ms%1000, 10)
	return strconv.FormatInt(ms/1000, 10) + "." + strings.Repeat("0", 3-len(frac)) + frac
}

func heads() []string {
	cells := make([]string, len(columns))
	for i, c := range columns {
		cells[i] = c.head
	}
	return cells
}

// deviceName names the device by its numbers, or by its subsystem where it has none.
func deviceName(e *uevent.Event) string {
	if e.Dev.IsZero() {
		return e.Subsystem
	}
	return e.Dev.String()
}

// rest tells what has no column of its own.
func rest(e *uevent.Event, p *nodes.Plan) string {
	text := e.Devpath
	if p.Late {
		text += "  (too late: /sys says otherwise)"
	}
	for _, l := range p.Links {
		text += "  " + l.Path + " -> " + nodes.Relative(l.Path, l.Target)
	}
	for _, c := range p.Commands {
		text += "  run: " + c.Text
	}
	if p.Firmware != "" {
		text += "  firmware: " + p.Firmware
	}
	return text
}

func (t *Table) write(cells []string) {
	var b strings.Builder
	for i, cell := range cells {
		cell = uevent.Printable(cell)
		b.WriteString(cell)
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", max(1, columns[i].width-len(cell))+1))
		}
	}
	unix.Write(t.fd, []byte(strings.TrimRight(b.String(), " ")+"\n"))
}
