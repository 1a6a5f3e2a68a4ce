package boot_test

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"devspool/hotplug/kerneltest"
	"devspool/initramfs/boot"
)

// facts are what is said of each device, by its name in udev's database: a path for a link,
// SUBSYSTEM:KEY=VALUE for a property, SUBSYSTEM:G:TAG for a tag that it ever had, Q for one that
// it has now, and further letters as files of the database have them.
type facts map[string][]string

// databaseFacts returns what the files below /run/udev/data say. That there is a file is one
// fact, SUBSYSTEM:file.
func databaseFacts(g *boot.Guest) facts {
	g.Helper()
	files, err := os.ReadDir("/run/udev/data")
	if err != nil {
		g.Fatal(err)
	}
	all := facts{}
	for _, file := range files {
		id := file.Name()
		subsystem := subsystemOf(id)
		said := []string{subsystem + ":file"}
		for line := range strings.Lines(g.Read("/run/udev/data/" + id)) {
			letter, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
			switch letter {
			case "S":
				said = append(said, value)
			case "E":
				said = append(said, subsystem+":"+value)
			case "I":
				said = append(said, subsystem+":I")
			default:
				said = append(said, subsystem+":"+letter+":"+value)
			}
		}
		all[id] = said
	}
	return all
}

// subsystemOf returns the subsystem of a device by its name in the database.
func subsystemOf(id string) string {
	switch id[0] {
	case 'b':
		return "block"
	case 'c':
		link, _ := os.Readlink("/sys/dev/char/" + id[1:] + "/subsystem")
		return filepath.Base(link)
	case 'n':
		return "net"
	}
	subsystem, _, _ := strings.Cut(id[1:], ":")
	return subsystem
}

// ownNumbers are properties of a message that differ with each event.
const ownNumbers = " SEQNUM USEC_INITIALIZED "

// messageFacts asks for an event of each device, and returns what the messages to libudev's
// monitors say of each, by devpath. That there is one is a fact, SUBSYSTEM:message.
func messageFacts(g *boot.Guest) facts {
	g.Helper()
	listener := exec.Command("/bin/udevadm", "monitor", "--udev", "--property")
	var printed bytes.Buffer
	listener.Stdin, listener.Stdout, listener.Stderr = os.Stdin, &printed, &printed
	if err := listener.Start(); err != nil {
		g.Fatal(err)
	}
	g.Until("udevadm monitor", func() error {
		if !kerneltest.HasListener(2) {
			return os.ErrNotExist
		}
		return nil
	})
	g.Command("/bin/udevadm", "trigger", "--action=add", "--settle")
	g.Command("/bin/udevadm", "settle", "--timeout=120")
	g.Until("udevadm monitor to read all", func() error {
		if !kerneltest.HasRead(2) {
			return syscall.EAGAIN
		}
		return nil
	})
	if err := listener.Process.Signal(syscall.SIGINT); err != nil {
		g.Fatal(err)
	}
	if err := listener.Wait(); err != nil {
		g.Fatalf("udevadm monitor: %v", err)
	}
	all := facts{}
	for part := range strings.SplitSeq(printed.String(), "\n\n") {
		if devpath, said := messageOf(part); devpath != "" {
			all[devpath] = said
		}
	}
	return all
}

// messageOf returns the facts of what udevadm monitor prints of a message. Of several about a
// device the last counts: a rule may ask for a change.
func messageOf(text string) (devpath string, said []string) {
	var subsystem string
	var properties []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		key, value, _ := strings.Cut(line, "=")
		switch {
		case key == "DEVPATH":
			devpath = value
		case key == "SUBSYSTEM":
			subsystem = value
		case strings.Contains(line, "=") && !strings.Contains(ownNumbers, " "+key+" "):
			properties = append(properties, line)
		}
	}
	said = []string{subsystem + ":message"}
	for _, line := range properties {
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "SYNTH_UUID": // another for each
			said = append(said, subsystem+":"+key)
		case "DEVLINKS":
			for link := range strings.FieldsSeq(value) {
				said = append(said, strings.TrimPrefix(link, "/dev/"))
			}
		case "TAGS", "CURRENT_TAGS":
			letter := map[string]string{"TAGS": ":G:", "CURRENT_TAGS": ":Q:"}[key]
			for _, tag := range strings.Split(strings.Trim(value, ":"), ":") {
				said = append(said, subsystem+letter+tag)
			}
		default:
			said = append(said, subsystem+":"+line)
		}
	}
	return devpath, said
}

// compareFacts compares what both sides say of each device. Of one of which a side says nothing
// at all only that is told.
func (all table) compareFacts(g *boot.Guest, where string, ours, theirs facts, least int) {
	g.Helper()
	same := 0
	for _, id := range slices.Sorted(maps.Keys(both(ours, theirs))) {
		for _, side := range []struct {
			name        string
			these, rest []string
		}{{"ours", ours[id], theirs[id]}, {"udev", theirs[id], ours[id]}} {
			these := side.these
			if len(side.rest) == 0 {
				these = these[:min(1, len(these))]
			}
			for _, fact := range these {
				switch {
				case slices.Contains(side.rest, fact):
					same++
				case !all.explains(side.name, fact):
					g.Errorf("%s: only %s says of %s: %s", where, side.name, id, fact)
				}
			}
		}
	}
	same /= 2
	g.Logf("%s: %d facts of %d devices are the same", where, same, len(theirs))
	if same < least {
		g.Errorf("%s: only %d facts are the same", where, same)
	}
}

// both returns the devices of either.
func both(a, b facts) map[string]bool {
	ids := map[string]bool{}
	for id := range a {
		ids[id] = true
	}
	for id := range b {
		ids[id] = true
	}
	return ids
}
