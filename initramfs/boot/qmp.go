package boot

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Monitor talks to the machine that the guest runs on, in QEMU's machine
// protocol: a line of JSON for each command, and one for each answer or event.
type Monitor struct {
	conn  io.ReadWriter
	lines *bufio.Reader
	gone  map[string]bool // devices that have left: their ids
	asked int             // requests so far; each carries its number
	begun []byte          // of a line, what has come of it
}

// message is what QEMU says: an answer, or an event.
type message struct {
	ID     int             `json:"id"` // of the request that it answers; 0 for none
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Text  string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
	Data  struct {
		Device string `json:"device"`
	} `json:"data"`
}

// NewMonitor shakes hands on a connection to QEMU. It does not wait for QEMU's
// greeting: that came when the machine was switched on, and of what comes over a
// serial line before its driver is there only a part is left.
func NewMonitor(conn io.ReadWriter) (*Monitor, error) {
	m := &Monitor{conn: conn, lines: bufio.NewReader(conn), gone: map[string]bool{}}
	var err error
	for range 10 {
		// Before the line was raw it may have echoed a part of the greeting. This
		// byte, which JSON never holds, makes QEMU forget what it read of that.
		if _, err = conn.Write([]byte{0xff, '\n'}); err != nil {
			break
		}
		err = m.do("qmp_capabilities", nil, 3*time.Second)
		if err == nil || strings.Contains(err.Error(), "CommandNotFound") { // an earlier one was heard
			return m, nil
		}
	}
	return nil, err
}

// read returns what QEMU says next before the deadline, without the part of a
// greeting. The line says EOF when nothing came for a while (see makeRaw); an EOF
// at once is the end.
func (m *Monitor) read(deadline time.Time) (message, error) {
	for {
		asked := time.Now()
		part, err := m.lines.ReadBytes('\n')
		m.begun = append(m.begun, part...)
		if err == nil {
			break
		}
		if err != io.EOF || time.Since(asked) < 100*time.Millisecond || time.Now().After(deadline) {
			return message{}, fmt.Errorf("QEMU's monitor: %w", err)
		}
	}
	line := m.begun
	m.begun = nil
	var said message
	if err := json.Unmarshal(line, &said); err != nil {
		return message{}, nil
	}
	if said.Event == "DEVICE_DELETED" {
		m.gone[said.Data.Device] = true
	}
	return said, nil
}

// Do has QEMU carry out a command.
func (m *Monitor) Do(command string, arguments map[string]any) error {
	return m.do(command, arguments, Patience)
}

func (m *Monitor) do(command string, arguments map[string]any, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	m.asked++
	request := map[string]any{"execute": command, "id": m.asked}
	if arguments != nil {
		request["arguments"] = arguments
	}
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := m.conn.Write(append(line, '\n')); err != nil {
		return err
	}
	for {
		said, err := m.read(deadline)
		switch {
		case err != nil:
			return err
		case said.ID != m.asked: // an event, or about what was no request of ours
		case said.Error != nil:
			return fmt.Errorf("%s: %s: %s", line, said.Error.Class, said.Error.Text)
		case said.Return != nil:
			return nil
		}
	}
}

// Plug adds a device. The properties are those of QEMU's option -device.
func (m *Monitor) Plug(driver, id string, properties map[string]any) error {
	arguments := map[string]any{"driver": driver, "id": id}
	for key, value := range properties {
		arguments[key] = value
	}
	delete(m.gone, id)
	return m.Do("device_add", arguments)
}

// Unplug removes a device, and returns when the guest has let go of it.
func (m *Monitor) Unplug(id string) error {
	if err := m.Do("device_del", map[string]any{"id": id}); err != nil {
		return err
	}
	for deadline := time.Now().Add(Patience); !m.gone[id]; {
		if _, err := m.read(deadline); err != nil {
			return err
		}
	}
	return nil
}

// Monitor connects to the monitor of the machine, which is the other end of the
// second serial line.
func (g *Guest) Monitor() *Monitor {
	g.Helper()
	const line = "/run/monitor" // a node of our own: /dev is what is tested
	g.Mknod(line, 0o600, 4, 65)
	fd, err := unix.Open(line, unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		g.Fatalf("second serial line: %v", err)
	}
	if err := makeRaw(fd); err != nil {
		g.Fatalf("second serial line: %v", err)
	}
	m, err := NewMonitor(os.NewFile(uintptr(fd), line))
	if err != nil {
		g.Fatal(err)
	}
	return m
}

// makeRaw lets a terminal pass bytes on as they are.
func makeRaw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.B115200 | unix.CS8 | unix.CREAD | unix.CLOCAL
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 0, 5 // a read ends after half a second with nothing
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}
