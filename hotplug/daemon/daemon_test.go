package daemon

import (
	"os"
	"testing"

	"devspool/hotplug/hotplugtest"
)

// TestBackground starts processes that become ready, fail, and are killed.
func TestBackground(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	hotplugtest.Must(t, err)
	for _, c := range []struct {
		role string
		code int
	}{{"ready", 0}, {"fails", 3}, {"killed", 128 + 9}} {
		environ := append(os.Environ(), hotplugtest.ChildRole+"="+c.role)
		hotplugtest.Within(t, c.role, func() {
			if code, err := Background([]string{self, "-d"}, environ); code != c.code || err != nil {
				t.Errorf("%s: code %d, error %v, want %d", c.role, code, err, c.code)
			}
		})
	}
}
