package scheduler_test

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
)

// TestCommand shows the working directory, umask, environment, standard input and process
// group of a command.
func TestCommand(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @sh TMP/look $MDEV\n")
	hotplugtest.Script(t, filepath.Join(b.Tmp, "look"), `
{ echo "$1"; pwd; umask; echo "$MDEV $ACTION $DEVSPOOL_COMMAND $DEVNAME"; cat; } > `+b.Tmp+`/said
cut -d' ' -f5 /proc/self/stat > `+b.Tmp+`/group; echo $$ > `+b.Tmp+`/pid
`)
	b.Run(b.Disks(1)...)
	want := []string{"sda", b.Dir, "0000", "sda add 1 sda"}
	if got := b.Said("said"); !slices.Equal(got, want) {
		t.Errorf("the command says %q, want %q", got, want)
	}
	if group, pid := b.Said("group"), b.Said("pid"); !slices.Equal(group, pid) {
		t.Errorf("process %s is in the group %s", pid, group)
	}
}

// TestCommandEnds shows what the log says about the end of commands.
func TestCommandEnds(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	for _, c := range []struct {
		command string
		want    []string // words of one line of the log
		fails   bool
	}{
		{"@TMP/ends 0", []string{"info: command ended", "exit status 0"}, false},
		{"@TMP/ends 3", []string{"info: command ended", "exit status 3"}, false},
		{"@kill -9 $$", []string{"warning: command ended", "by signal 9"}, false},
		{"@TMP/nothing", []string{"warning: command ended", "no such file"}, false},
		{"+nothing", []string{"warning: command ended", "no such program"}, false},
		{"@TMP/bare 4", []string{"info: command ended", "exit status 4"}, false},
		{"@nothing-at-all", []string{"info: command ended", "exit status 127"}, false},
	} {
		b := board.New(t, "sda 0:0 660 "+c.command+"\n")
		hotplugtest.Script(t, filepath.Join(b.Tmp, "ends"), "#!/bin/sh\nexit $1\n")
		hotplugtest.Script(t, filepath.Join(b.Tmp, "bare"), "exit $1\n") // without a line that names an interpreter
		b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
		ok := b.Run(b.Sys.NewEvent("add", "/devices/block/sda"))
		b.Log.Want(c.want...)
		b.Log.Want("mdev.conf:1", "/devices/block/sda")
		if ok == c.fails {
			t.Errorf("%s: ok is %v", c.command, ok)
		}
		b.WantNode("sda", "b8:0 0660")
	}
}

// TestTimeout shows that a command which exceeds its time limit is killed, with all that it
// started, and that the commands after it run.
func TestTimeout(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "-timeout=1;sda 0:0 660 @TMP/slow\nsda 0:0 660 @echo next >TMP/next\n")
	hotplugtest.Script(t, filepath.Join(b.Tmp, "slow"), `#!/bin/sh
sleep 600 &
echo $! >`+b.Tmp+`/pids
sh -c 'echo $$ >>`+b.Tmp+`/pids; sleep 600; true'
`)
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	start := time.Now()
	b.Run(b.Sys.NewEvent("add", "/devices/block/sda"))
	if took := time.Since(start); took < time.Second || took > hotplugtest.Patience/2 {
		t.Errorf("it took %v", took)
	}
	b.Log.Want("error: killed", "mdev.conf:1", "ran longer than 1 s")
	if got := b.Said("next"); !slices.Equal(got, []string{"next"}) {
		t.Errorf("the next command says %q", got)
	}
	pids := b.Said("pids")
	if len(pids) != 2 {
		t.Fatalf("the command says %q", pids)
	}
	for _, text := range pids {
		pid, err := strconv.Atoi(text)
		hotplugtest.Must(t, err)
		hotplugtest.Eventually(t, "the end of what the command started", func() bool { return !hotplugtest.Alive(pid) })
	}
}

// TestHostileValues gives commands a value that a device may have: it reaches them as one
// word, or one variable, and no shell takes it for code.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	hostile := "x; touch TMP/owned $(touch TMP/owned) `touch TMP/owned` | a\nb"
	b := board.New(t, "-.* 0:0 660 @TMP/args $SERIAL end\n.* 0:0 660 @TMP/args \"$SERIAL\" end;\n")
	hostile = strings.ReplaceAll(hostile, "TMP", b.Tmp)
	hotplugtest.Script(t, filepath.Join(b.Tmp, "args"), "#!/bin/sh\nprintf '%s|' $# \"$@\" >>"+b.Tmp+"/args.out\n")
	b.Run(hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/usb1", "SUBSYSTEM=usb", "SERIAL="+hostile))
	want := "2|" + hostile + "|end|"
	if got := hotplugtest.Contents(t, filepath.Join(b.Tmp, "args.out")); got != want+want {
		t.Errorf("the commands got %q, want twice %q", got, want)
	}
	if len(b.Said("owned")) > 0 {
		t.Error("a value was taken for code")
	}
	for _, line := range b.Log.Lines() {
		if strings.ContainsFunc(line, func(c rune) bool { return c < ' ' }) {
			t.Errorf("a control byte in the log: %q", line)
		}
	}
}
