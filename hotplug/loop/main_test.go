package loop

import (
	"testing"

	"devspool/hotplug/hotplugtest"
)

func TestMain(m *testing.M) { hotplugtest.Main(m, nil) }
