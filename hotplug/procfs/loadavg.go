package procfs

import (
	"runtime"
	"strconv"
	"strings"

	"devspool/hotplug/sys"
)

// CPUSaturated reports whether tasks wait for a processor. The fourth word of the file
// is how many run or wait, of how many there are.
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
