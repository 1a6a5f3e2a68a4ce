//go:build !noboot

package hotplug

import (
	"sync"

	"devspool/hotplug/log"
	"devspool/hotplug/modules"
	"devspool/hotplug/scheduler"
)

// HasModules tells that kernel modules can be loaded without modprobe.
const HasModules = true

// moduleLoader opens the modules of the running kernel when they are needed first.
type moduleLoader struct {
	sys    string
	log    *log.Logger
	once   sync.Once
	loader *modules.Loader // nil where there are none, or modprobe is to see to them
}

func newModules(r *runner) scheduler.ModuleLoader {
	if r.DryRun {
		return nil
	}
	return &moduleLoader{sys: r.Sys, log: r.log}
}

// Handles implements scheduler.ModuleLoader.
func (m *moduleLoader) Handles(command string) bool {
	if _, is := modules.ParseCommand(command); !is {
		return false
	}
	m.once.Do(func() {
		loader, err := modules.Open(modules.Source{}, modules.Options{Log: m.log, Sys: m.sys})
		if err != nil {
			m.log.Print(log.Info, "modules are left to modprobe: "+err.Error())
			return
		}
		m.loader = loader
	})
	return m.loader != nil
}

// Load implements scheduler.ModuleLoader.
func (m *moduleLoader) Load(alias string) error {
	done := make(chan error, 1)
	m.loader.Request(alias, func(err error) { done <- err })
	return <-done
}
