package daemon

import (
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
)

func TestMain(m *testing.M) {
	hotplugtest.Main(m, map[string]func() int{
		"ready":  func() int { Ready(BackgroundFD); return 0 },
		"fails":  func() int { return 3 },
		"killed": func() int { unix.Kill(unix.Getpid(), unix.SIGKILL); return 0 },
	})
}
