package procfs

import (
	"runtime"
	"strconv"
	"strings"

	"devspool/hotplug/sys"
)

// CPUSaturated reports whether more tasks are runnable than there are processors. The fourth
// word of /proc/loadavg is how many are runnable, of how many there are (proc_loadavg(5)).
// Without /proc it returns false.
func CPUSaturated() bool {
	text, err := sys.ReadAttribute("/proc/loadavg")
	words := strings.Fields(text)
	if err != nil || len(words) < 4 {
		return false
	}
	ready, _, _ := strings.Cut(words[3], "/")
	n, err := strconv.Atoi(ready)
	return err == nil && n > runtime.NumCPU()
}
