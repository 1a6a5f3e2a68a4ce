// Package procfs reads what /proc says of processes: parents, starts, users, locks,
// mappings, and how busy the processors are. It never writes. Early in a boot /proc is not
// mounted; the functions' comments say what they answer then.
package procfs

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// The fields of stat, in proc_pid_stat(5) the fields 3, 4, 5 and 22.
const (
	statState  = 0
	statParent = 1
	statGroup  = 2
	statStart  = 19
	statFields = statStart + 1
)

// stat returns the fields of /proc/PID/stat from the third on, at least statFields of them, or
// nil where there is no such process or no /proc. The second field is the program's name in
// parentheses, which may hold any character.
func stat(pid string) []string {
	text, _ := sys.ReadAttribute("/proc/" + pid + "/stat")
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) // no field behind the name has one
	if len(fields) < statFields {
		return nil
	}
	return fields
}

// mounted reports whether there is a /proc.
func mounted() bool { return sys.Exists(unix.AT_FDCWD, "/proc/self") }

// Parent returns the pid of a process's parent, or 0 where there is no such process or no /proc.
func Parent(pid int) int {
	fields := stat(strconv.Itoa(pid))
	if fields == nil {
		return 0
	}
	parent, _ := strconv.Atoi(fields[statParent])
	return parent
}

// Process identifies one process: its number may be given to another process later, but not
// together with its start. The zero Process stands for none. It is comparable.
type Process struct {
	Pid   int
	Start uint64 // clock ticks from the boot to the start of the process; 0 where there was no /proc
}

// Find returns the process that has the number pid now, and whether it is alive.
func Find(pid int) (p Process, alive bool) {
	alive, p.Start = find(pid)
	p.Pid = pid
	return p, alive
}

// Alive reports whether p lives. A zombie does not.
func (p Process) Alive() bool {
	if p.Pid == 0 {
		return false
	}
	alive, start := find(p.Pid)
	return alive && (start == p.Start || start == 0 || p.Start == 0)
}

// find reports whether a process is alive, and when it started. Without /proc the start is 0, and
// a zombie passes for alive.
func find(pid int) (alive bool, start uint64) {
	fields := stat(strconv.Itoa(pid))
	if fields == nil {
		return unix.Kill(pid, 0) == nil && !mounted(), 0
	}
	start, _ = strconv.ParseUint(fields[statStart], 10, 64)
	// Z is a zombie, X one that is about to vanish.
	return strings.IndexByte("ZX", fields[statState][0]) < 0, start
}

// RunsAs reports whether the real or the effective user of a process is uid. Without /proc it
// returns true.
func RunsAs(pid int, uid uint32) bool {
	text, err := sys.ReadAttribute("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return !mounted()
	}
	_, rest, _ := strings.Cut(text, "\nUid:")
	line, _, _ := strings.Cut(rest, "\n")
	ids := strings.Fields(line)
	user := strconv.Itoa(int(uid))
	return len(ids) >= 2 && (ids[0] == user || ids[1] == user) // real, effective, saved, of the file system
}

// CountRunnable returns how many processes of some process groups are in state R: they run on a
// processor, or wait for one. Without /proc it returns 0.
func CountRunnable(groups map[int]bool) (n int) {
	for _, pid := range sys.ReadDir("/proc") {
		if pid[0] < '1' || pid[0] > '9' {
			continue
		}
		fields := stat(pid)
		if fields == nil {
			continue
		}
		if group, err := strconv.Atoi(fields[statGroup]); err == nil && fields[statState] == "R" && groups[group] {
			n++
		}
	}
	return n
}
