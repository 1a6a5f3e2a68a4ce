package identity

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/uevent"
)

var update = flag.Bool("update", false, "write the expected names of testdata/machines anew")

// machine is a small /sys. Its file has a line for each device, indented lines for the
// attributes of the one above, and after "--" what each device deserves:
//
//	/devices/pci0000:00/0000:00:14.0 pci - DRIVER=xhci_hcd
//	  vendor=0x8086
//	  driver -> ../../../bus/pci/drivers/xhci_hcd
//
// A quoted value is a Go string. A device without numbers has "-" for them, one without
// a subsystem "-" for that.
type machine struct {
	name, sys, want string
	fs              *hotplugtest.Sysfs
	devpaths        []string
}

func loadMachines(t *testing.T) (all []*machine) {
	t.Helper()
	files, err := filepath.Glob("testdata/machines/*.txt")
	hotplugtest.Must(t, err)
	for _, file := range files {
		text := hotplugtest.Contents(t, file)
		sys, want, _ := strings.Cut(text, "\n--\n")
		m := &machine{name: strings.TrimSuffix(filepath.Base(file), ".txt"), sys: sys, want: want}
		m.build(t)
		all = append(all, m)
	}
	if len(all) == 0 {
		t.Fatal("no machines")
	}
	return all
}

func (m *machine) build(t *testing.T) {
	t.Helper()
	m.fs, m.devpaths = hotplugtest.NewSysfs(t), nil
	hotplugtest.Must(t, os.MkdirAll(m.fs.Path("/bus/pci"), 0o755))
	devpath := ""
	for i, line := range strings.Split(m.sys, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !strings.HasPrefix(line, " ") {
			words := strings.Fields(line)
			if len(words) < 3 {
				t.Fatalf("%s:%d: %q", m.name, i+1, line)
			}
			devpath = words[0]
			m.add(devpath, words[1], words[2], words[3:])
			continue
		}
		line = strings.TrimLeft(line, " ")
		if name, target, is := strings.Cut(line, " -> "); is {
			if strings.HasPrefix(target, "/") {
				depth := strings.Count(devpath, "/")
				target = strings.Repeat("../", depth) + target[1:]
			}
			hotplugtest.Must(t, os.Symlink(target, m.fs.Path(devpath+"/"+name)))
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		if strings.HasPrefix(value, `"`) {
			var err error
			value, err = strconv.Unquote(value)
			hotplugtest.Must(t, err)
		} else {
			value += "\n"
		}
		hotplugtest.WriteFile(t, m.fs.Path(devpath+"/"+name), value)
	}
}

func (m *machine) add(devpath, subsystem, numbers string, lines []string) {
	if subsystem == "dir" { // no device
		hotplugtest.Must(m.fs.T, os.MkdirAll(m.fs.Path(devpath), 0o755))
		return
	}
	if subsystem == "-" {
		subsystem = ""
	}
	if numbers == "-" {
		numbers = ""
	}
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], "␣", " ")
	}
	m.fs.Add(devpath, subsystem, numbers, lines...)
	m.devpaths = append(m.devpaths, devpath)
}

// render writes what a device deserves in the letters of udevadm info.
func render(devpath string, id *Identity) string {
	var b strings.Builder
	b.WriteString("P: " + devpath + "\n")
	for _, l := range id.Links {
		b.WriteString("S: " + l.Path)
		if l.Priority != 0 {
			b.WriteString(" (" + strconv.Itoa(l.Priority) + ")")
		}
		b.WriteByte('\n')
	}
	for _, kv := range id.Properties {
		b.WriteString("E: " + kv + "\n")
	}
	if id.Keep {
		b.WriteString("keep\n")
	}
	return b.String()
}

func (m *machine) events(t *testing.T) (events []*uevent.Event) {
	t.Helper()
	for _, devpath := range m.devpaths {
		e, err := m.fs.Event("add", devpath)
		hotplugtest.Must(t, err)
		events = append(events, e)
	}
	return events
}

// TestMachines compares the names on each machine with those in its file.
func TestMachines(t *testing.T) {
	for _, m := range loadMachines(t) {
		t.Run(m.name, func(t *testing.T) {
			p := &Prober{Sys: m.fs.FS}
			var got []string
			for _, e := range m.events(t) {
				id := p.Identify(e)
				if len(id.Links)+len(id.Properties) > 0 {
					got = append(got, render(e.Devpath, id))
				}
			}
			text := strings.Join(got, "\n")
			if *update {
				hotplugtest.WriteFile(t, "testdata/machines/"+m.name+".txt", m.sys+"\n--\n"+text)
				return
			}
			if text != m.want {
				t.Errorf("names differ; -update writes them anew. They are now:\n%s", diff(m.want, text))
			}
		})
	}
}

// diff lists the lines that are in one of two texts alone.
func diff(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var b strings.Builder
	for _, line := range w {
		if !slices.Contains(g, line) {
			b.WriteString("- " + line + "\n")
		}
	}
	for _, line := range g {
		if !slices.Contains(w, line) {
			b.WriteString("+ " + line + "\n")
		}
	}
	return b.String()
}
