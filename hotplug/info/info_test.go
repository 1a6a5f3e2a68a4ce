package info

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/sysfs"
	"devspool/nodes/identity"
)

// tool runs the tool over a sysfs.
func tool(sys sysfs.FS, args ...string) (code int, out, err string) {
	var stdout, stderr bytes.Buffer
	p := &identity.Prober{Sys: sys}
	code = Run(args, Streams{&stdout, &stderr}, func(_, dev string) Lookup {
		return Lookup{Sys: sys, Dev: dev, Identify: p.Identify}
	})
	return code, stdout.String(), stderr.String()
}

// TestForms shows each form of one device.
func TestForms(t *testing.T) {
	s := hotplugtest.NewSysfs(t)
	s.Add("/devices/pci0000:00/0000:00:05.0", "pci", "")
	s.Add("/devices/pci0000:00/0000:00:05.0/virtio1", "virtio", "")
	disk := "/devices/pci0000:00/0000:00:05.0/virtio1/block/vda"
	s.Add(disk, "block", "253:0", "DEVNAME=vda", "DEVTYPE=disk", "DISKSEQ=7")
	hotplugtest.WriteFile(t, s.Path(disk+"/serial"), "it's\n")
	all := `P: ` + disk + `
M: vda
U: block
T: disk
D: b 253:0
N: vda
L: 0
S: disk/by-id/virtio-it_s
S: disk/by-path/pci-0000:00:05.0
S: disk/by-path/virtio-pci-0000:00:05.0
S: disk/by-diskseq/7
Q: 7
E: DEVPATH=` + disk + `
E: SUBSYSTEM=block
E: MAJOR=253
E: MINOR=0
E: DEVNAME=/dev/vda
E: DEVTYPE=disk
E: DISKSEQ=7
E: ID_SERIAL=it_s
E: ID_PATH=pci-0000:00:05.0
E: ID_PATH_TAG=pci-0000_00_05_0
E: DEVLINKS=/dev/disk/by-id/virtio-it_s /dev/disk/by-path/pci-0000:00:05.0 /dev/disk/by-path/virtio-pci-0000:00:05.0 /dev/disk/by-diskseq/7
`
	for _, c := range []struct {
		args string
		want string
	}{
		{"", all},
		{"--export", all},
		{"-q path", disk + "\n"},
		{"--query=name", "vda\n"},
		{"-qproperty --property=ID_SERIAL,DEVTYPE", "DEVTYPE=disk\nID_SERIAL=it_s\n"},
		{"--query=property --property=ID_SERIAL --value", "it_s\n"},
		{"--query=property --property=ID_SERIAL -x", "ID_SERIAL='it_s'\n"},
		{"-q symlink", "disk/by-id/virtio-it_s disk/by-path/pci-0000:00:05.0 disk/by-path/virtio-pci-0000:00:05.0 disk/by-diskseq/7\n"},
		{"--json --property=DEVTYPE,ID_SERIAL", `{"DEVTYPE":"disk","ID_SERIAL":"it_s"}` + "\n"},
	} {
		for _, device := range []string{disk, string(s.FS) + disk} {
			code, out, stderr := tool(s.FS, append(strings.Fields(c.args), device)...)
			if code != 0 || out != c.want {
				t.Errorf("info %s %s: %d\n%s%swant\n%s", c.args, device, code, out, stderr, c.want)
			}
		}
	}
	_, out, _ := tool(s.FS, "--json", disk)
	var object map[string]string
	hotplugtest.Must(t, json.Unmarshal([]byte(out), &object))
	if object["ID_PATH"] != "pci-0000:00:05.0" {
		t.Errorf("%q", object)
	}
	if _, out, _ = tool(s.FS, "-e"); strings.Count(out, "P: ") != 3 || !strings.Contains(out, "\n\nP: ") {
		t.Errorf("all devices:\n%s", out)
	}
}

// TestMisuse shows what the tool says of a wrong command line.
func TestMisuse(t *testing.T) {
	for args, code := range map[string]int{"": 100, "--nonsense x": 100, "-q nonsense x": 100, "-q": 100, "x": 1, "--json=1 x": 100, "/nosuch": 1, "-h": 0} {
		if got, _, err := tool("/sys", strings.Fields(args)...); got != code || code != 0 && err == "" {
			t.Errorf("info %s: %d %q", args, got, err)
		}
	}
}

// TestUdevadm compares what is shown of this machine's devices with udevadm info, but for
// what udev's database adds.
func TestUdevadm(t *testing.T) {
	if _, err := exec.LookPath("udevadm"); err != nil {
		t.Skip("NOT TESTED: " + t.Name() + ": needs udevadm")
	}
	sys := sysfs.FS("/sys")
	events, err := sys.Events("change", "", "/dev")
	hotplugtest.Must(t, err)
	seen := map[string]bool{}
	for _, e := range events {
		if seen[e.Subsystem] {
			continue
		}
		seen[e.Subsystem] = true
		out, err := exec.Command("udevadm", "info", "/sys"+e.Devpath).Output()
		if err != nil {
			continue // it went
		}
		theirs := comparable(string(out))
		_, text, _ := tool(sys, "/sys"+e.Devpath)
		if ours := comparable(text); ours != theirs {
			t.Errorf("%s:\n%s\nudevadm:\n%s", e.Devpath, ours, theirs)
		}
	}
}

// comparable leaves out what comes of names: properties, links and their priority.
func comparable(text string) string {
	var kept []string
	for _, line := range strings.Split(text, "\n") {
		if line != "" && !strings.Contains("ESL", line[:1]) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}
