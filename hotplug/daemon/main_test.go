package daemon

import (
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
)

func TestMain(m *testing.M) {
	hotplugtest.Main(m, map[string]func() int{
		"ready": func() int {
			if Ready(BackgroundFD) != nil {
				return 1
			}
			return 0
		},
		"fails":  func() int { return 3 },
		"killed": func() int { unix.Kill(unix.Getpid(), unix.SIGKILL); return 0 },
	})
}
