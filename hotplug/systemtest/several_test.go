package systemtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
)

// battery is a device that says a variable twice, as those do since Linux 6.14 which
// have a driver's extension beside their own properties.
func battery() kerneltest.Device {
	return kerneltest.Device{
		Devpath: "/devices/LNXSYSTM:00/PNP0C0A:00/power_supply/BAT0", Subsystem: "power_supply",
		Extra: []string{"DEVTYPE=power_supply", "POWER_SUPPLY_NAME=BAT0", "CHARGE_TYPES=[Fast] Standard",
			"POWER_SUPPLY_STATUS=Full", "CHARGE_TYPES=[Adaptive] Long"},
	}
}

// chargeTypes are the values of that variable.
var chargeTypes = []string{"[Fast] Standard", "[Adaptive] Long"}

// exec runs the program with just this environment, in which a variable may be twice:
// what package os/exec starts has each once. It must end well.
func (b *board) exec(environ []string, args ...string) {
	b.Helper()
	argv := append(append([]string{b.program}, b.roots()...), args...)
	var pid int
	var err error
	start := func() {
		pid, err = syscall.ForkExec(b.program, argv, &syscall.ProcAttr{
			Env: environ, Files: []uintptr{b.null.Fd(), b.null.Fd(), 2},
		})
	}
	if b.jail != nil {
		b.jail.Do(start)
	} else {
		start()
	}
	if err != nil {
		b.Fatal(err)
	}
	late := time.AfterFunc(2*patience, func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	defer late.Stop()
	var status syscall.WaitStatus
	for {
		_, err = syscall.Wait4(pid, &status, 0, nil)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil || status != 0 {
		b.Errorf("%q: status %v, error %v", argv, status, err)
	}
}

// TestSeveralValues has rules match by any value of a variable that an event says
// twice, and their commands run for each value that matched, whoever brings the event.
func TestSeveralValues(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	words, file := b.witness("seen")
	rule := func(match, name string) string {
		return "-SUBSYSTEM=power_supply;" + match + " 0:0 660 *" + words + " " + name + "\n"
	}
	b.configure(rule("$CHARGE_TYPES=.*Adaptive.*", "second") +
		rule(`CHARGE_TYPES=^\[;BAT0`, "each") +
		rule("CHARGE_TYPES=Long;POWER_SUPPLY_STATUS=F;.*", "condition") +
		rule("CHARGE_TYPES=Slow;.*", "none") +
		rule("BAT0", "name"))
	want := []string{"second " + chargeTypes[1], "each " + chargeTypes[0], "each " + chargeTypes[1], "condition " + chargeTypes[1], "name " + chargeTypes[0]}
	check := func(how string) {
		t.Helper()
		kerneltest.Until(t, patience, how, func() bool {
			all := b.testimonies(file)
			return len(all) > 0 && all[len(all)-1].Args[0] == "name"
		})
		var got []string
		for _, y := range b.testimonies(file) {
			got = append(got, y.Args[0]+" "+y.get("CHARGE_TYPES"))
			if n := strings.Count("\n"+strings.Join(y.Env, "\n"), "\nCHARGE_TYPES="); n != 1 || y.get("POWER_SUPPLY_STATUS") != "Full" {
				t.Errorf("%s: the environment has CHARGE_TYPES %d times: %q", how, n, y.Env)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: ran\n%q\nwant\n%q", how, got, want)
		}
		os.Remove(file)
	}
	add := b.plug(battery())
	b.scan()
	check("a scan")
	b.exec(add.Environ(b.nextSeqnum()))
	check("a helper")
	b.exec([]string{"ACTION=change", "DEVPATH=" + add.Devpath})
	check("a helper that a script gives the devpath alone")
	l := b.startLoop()
	check("the loop's scan")
	l.send(battery().Event("change"))
	check("an event to the loop")
	l.stop()
	os.Remove(file)

	jailed := newJailedBoard(t, b.read(b.conf))
	first := jailed.serve(jailed.plug(disk(0)))
	jailed.exec(jailed.plug(battery()).Environ(jailed.nextSeqnum()), "power_supply")
	check("the kernel's helper beside another")
	jailed.must(jailed.run("ctl", "exit"))
	first.Wait()
}

// TestSeveralValuesToClients has every client get all values, as they came, and a
// filter pass an event by any of them.
func TestSeveralValuesToClients(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "SUBSYSTEM=power_supply;.* 0:0 660 @socket:/etc/socket\n")
	socket, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	if err == nil {
		err = syscall.Bind(socket, &syscall.SockaddrUnix{Name: filepath.Dir(b.conf) + "/socket"})
	}
	if err == nil {
		err = syscall.SetsockoptTimeval(socket, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: int64(patience / time.Second)})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(socket)
	kernel, err := kerneltest.ListenTo(1)
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close()
	group, err := kerneltest.ListenTo(4)
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	reader, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	_ = reader.SetReadDeadline(time.Now().Add(2 * patience))
	written := bufio.NewReader(reader)
	b.files = []*os.File{to}
	l := b.startLoop("-O", "4", "-o", "4")
	to.Close()
	all, second, slow := b.watch("subsystem=power_supply"), b.watch("CHARGE_TYPES="+chargeTypes[1]), b.watch("CHARGE_TYPES=Slow")

	l.send(b.plug(battery()))
	l.send(b.unplug(battery()))
	var sent string
	for _, client := range []struct {
		name string
		next func() ([]byte, error)
	}{
		{"the kernel's group", func() ([]byte, error) { return kernel.Next(patience) }},
		{"-O", func() ([]byte, error) { return group.Next(patience) }},
		{"-o", func() ([]byte, error) { return message(written) }},
		{"socket:", func() ([]byte, error) {
			buf := make([]byte, 8<<10)
			n, _, err := syscall.Recvfrom(socket, buf, 0)
			return buf[:max(n, 0)], err
		}},
	} {
		var got []byte
		for !bytes.Contains(got, []byte("/BAT0\x00")) { // a stranger's
			if got, err = client.next(); err != nil {
				t.Fatalf("%s: %v", client.name, err)
			}
		}
		if sent == "" {
			sent = string(got)
		}
		if string(got) != sent || strings.Count(sent, "\x00CHARGE_TYPES=") != 2 {
			t.Errorf("%s: %q, the kernel said %q", client.name, got, sent)
		}
	}
	for name, w := range map[string]*watcher{"all": all, "second": second} {
		for _, action := range []string{"add", "remove"} {
			w.out.SetReadDeadline(time.Now().Add(patience))
			var got map[string]any
			if err := w.events.Decode(&got); err != nil {
				t.Fatalf("%s: no %s: %v", name, action, err)
			}
			text, _ := json.Marshal(got["CHARGE_TYPES"])
			if want := `["[Fast] Standard","[Adaptive] Long"]`; got["ACTION"] != action || string(text) != want || got["POWER_SUPPLY_STATUS"] != "Full" {
				t.Errorf("%s: %v", name, got)
			}
		}
	}
	e := disk(0).Event("change")
	e.Vars = append(e.Vars, "CHARGE_TYPES=Slow")
	l.send(e)
	slow.expect(map[string]string{"ACTION": "change", "CHARGE_TYPES": "Slow"}) // and nothing came before
	l.send(b.plug(battery()))
	b.must(b.run("wait", "CHARGE_TYPES="+chargeTypes[1], "20"))
	if r := b.run("wait", "CHARGE_TYPES=Slow", "0"); r.code == exitDone {
		t.Errorf("wait for a value that nothing has: %+v", r)
	}
}

// message reads what -o writes of one event.
func message(from *bufio.Reader) (msg []byte, err error) {
	for !bytes.HasSuffix(msg, []byte("\x00\x00")) {
		part, err := from.ReadBytes(0)
		if err != nil {
			return nil, err
		}
		msg = append(msg, part...)
	}
	return msg[:len(msg)-1], nil
}
