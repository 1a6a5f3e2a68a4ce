package control

import (
	"testing"

	"devspool/hotplug/hotplugtest"
)

func TestMain(m *testing.M) { hotplugtest.Main(m, map[string]func() int{"asks": asks}) }
