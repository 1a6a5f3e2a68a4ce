// Package procfs reads what /proc tells of processes: parents, starts, users, locks,
// mappings, and how busy the processors are. It never writes. Where /proc is not
// mounted yet, functions answer as their comments say.
package procfs

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// Parent returns the process's parent, or 0.
func Parent(pid int) int {
	stat, _ := sys.ReadAttribute("/proc/" + strconv.Itoa(pid) + "/stat")
	_, parent, _ := Fields(stat)
	n, _ := strconv.Atoi(parent)
	return n
}

// Fields returns fields 3 to 5 of a /proc/PID/stat. The name before them may
// hold anything.
func Fields(stat string) (state, parent, group string) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 3 {
		return "", "", ""
	}
	return fields[0], fields[1], fields[2]
}

// Process is one process for good: its number may be another's in time, its start
// too is not. The zero process stands for none.
type Process struct {
	Pid   int
	Start uint64 // since the boot, in ticks
}

// Find returns the process that has the number pid now.
func Find(pid int) (p Process, ok bool) {
	state, start := Stat(pid)
	return Process{pid, start}, !dead(state)
}

// Alive reports whether p lives. One that only waits for its parent to hear of its
// end does not.
func (p Process) Alive() bool {
	if p.Pid == 0 {
		return false
	}
	state, start := Stat(p.Pid)
	return !dead(state) && (start == p.Start || start == 0 || p.Start == 0)
}

func dead(state byte) bool { return state == 0 || state == 'Z' || state == 'X' }

// Stat returns a process's state, or 0 where there is none, and when it started: 0
// as long as there is no /proc to tell.
func Stat(pid int) (state byte, start uint64) {
	text, err := sys.ReadKernelFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		if unix.Kill(pid, 0) == nil && !sys.Exists(unix.AT_FDCWD, "/proc/self") {
			return 'R', 0
		}
		return 0, 0
	}
	// The second field is the program's name in parentheses, whatever that holds.
	fields := strings.Fields(string(text[strings.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return 0, 0
	}
	start, _ = strconv.ParseUint(fields[19], 10, 64)
	return fields[0][0], start
}

// RunsAs reports whether a process runs as a user, really or effectively.
func RunsAs(pid int, uid uint32) bool {
	text, err := sys.ReadKernelFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return !sys.Exists(unix.AT_FDCWD, "/proc/self") // nobody to ask yet
	}
	_, rest, _ := strings.Cut(text, "\nUid:")
	line, _, _ := strings.Cut(rest, "\n")
	ids := strings.Fields(line)
	user := strconv.Itoa(int(uid))
	return len(ids) >= 2 && (ids[0] == user || ids[1] == user)
}

// CountRunnable returns how many processes of some process groups are in state R: on a
// processor, or waiting for one.
func CountRunnable(groups map[int]bool) (n int) {
	for _, pid := range sys.ReadDir("/proc") {
		if pid[0] < '1' || pid[0] > '9' {
			continue
		}
		stat, err := sys.ReadAttribute("/proc/" + pid + "/stat")
		if err != nil {
			continue
		}
		state, _, text := Fields(stat)
		if group, err := strconv.Atoi(text); err == nil && state == "R" && groups[group] {
			n++
		}
	}
	return n
}
