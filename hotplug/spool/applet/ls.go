package applet

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/spool"
)

// ls lists the queues.
func (s Streams) ls(args []string) error {
	root := spool.DefaultEvents
	rest, err := parse(args, map[string]option{"--events": {value: &root}})
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return misuse("not understood: " + rest[0])
	}
	entries, err := os.ReadDir(root)
	if os.IsNotExist(err) {
		return noSpool(root)
	}
	if err != nil {
		return err
	}
	locks, _ := os.ReadFile("/proc/locks")
	text := "   UID    OWNER  UNREAD  QUEUE\n"
	for _, e := range entries {
		if !e.IsDir() || e.Name()[0] == '.' {
			continue
		}
		path := root + "/" + e.Name()
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			continue // it has just left
		}
		text += right(strconv.Itoa(int(st.Uid)), 6) + right(owner(path, string(locks), &st), 9) +
			right(unread(path), 8) + "  " + spool.Escape(e.Name()) + "\n"
	}
	_, err = s.Out.Write([]byte(text))
	return err
}

// owner returns the process that a queue lives by, as far as it can be told from
// outside: who holds its lock, or who is in its name, if it lives; else "sticky"
// or "-". The lock is not tried: a publisher would see it held.
func owner(path, locks string, st *unix.Stat_t) string {
	file := hex(unix.Major(uint64(st.Dev))) + ":" + hex(unix.Minor(uint64(st.Dev))) + ":" + strconv.FormatUint(st.Ino, 10)
	for line := range strings.Lines(locks) {
		if f := strings.Fields(line); len(f) > 5 && f[1] == "FLOCK" && f[5] == file {
			return f[4]
		}
	}
	words := strings.Split(path, "-") // its name ends in PID or PID-SLOT
	for _, word := range words[max(0, len(words)-2):] {
		if pid, err := strconv.Atoi(word); err == nil && pid > 0 && unix.Kill(pid, 0) != unix.ESRCH {
			return word
		}
	}
	if unix.Access(path+"/.sticky", unix.F_OK) == nil {
		return "sticky"
	}
	return "-"
}

// hex writes a number as /proc/locks does.
func hex(n uint32) string {
	text := strconv.FormatUint(uint64(n), 16)
	return strings.Repeat("0", max(0, 2-len(text))) + text
}

// unread returns how many events wait, or "?" where the queue may not be looked into.
func unread(path string) string {
	n, err := spool.Unread(path)
	if err != nil {
		return "?"
	}
	return strconv.Itoa(n)
}
