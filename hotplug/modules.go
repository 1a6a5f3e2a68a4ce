//go:build !noboot

package hotplug

import (
	"sync"

	"devspool/hotplug/log"
	"devspool/hotplug/modules"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sys"
)

// HasModules tells that kernel modules can be loaded without modprobe.
const HasModules = true

// moduleLoader opens the modules of the running kernel when they are needed first: a machine without
// modules, or a rule without modprobe, never pays for it.
type moduleLoader struct {
	*runner
	mu     sync.Mutex          // guards the fields below
	tried  bool                // to open it: whatever came of that, it is not tried again
	loader *modules.Loader     // nil where there are none, or modprobe is to see to them
	loads  map[string]sys.Time // devices that wait for modules, and since when
}

// newModules returns what loads modules for the scheduler, or nil for a dry run.
func newModules(r *runner) scheduler.ModuleLoader {
	if r.DryRun {
		return nil
	}
	r.modules = &moduleLoader{runner: r, loads: map[string]sys.Time{}}
	r.sinks = append(r.sinks, scheduler.Sink{Status: r.modules.status})
	return r.modules
}

// Handles implements scheduler.ModuleLoader.
func (m *moduleLoader) Handles(command string) bool {
	if _, is := modules.ParseCommand(command); !is {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.tried {
		// Once, or a failure would be logged and paid for with each device.
		m.tried = true
		m.open()
	}
	return m.loader != nil
}

// open opens the modules, or leaves them to the modprobe program. The mutex is held.
func (m *moduleLoader) open() {
	source := modules.Source{}
	source.Cmdline, _ = sys.ReadFile("/proc/cmdline")
	loader, err := modules.Open(source, modules.Options{Log: m.log, Sys: m.Sys, Program: m.program()})
	if err != nil {
		m.log.Print(log.Info, "modules are left to modprobe: "+err.Error())
		return
	}
	// The preference may have begun before this loader was opened.
	loader.First(m.first.holds())
	m.loader = loader
}

// status returns a line about the modules that failed, and those that the kernel is still at work
// on, and the devices that wait for modules.
func (m *moduleLoader) status() string {
	failed, loading := "", ""
	if l := m.opened(); l != nil {
		l.Unloaded(func(name string, err *modules.Error) {
			if err == nil {
				loading += " " + name
			} else {
				failed += " " + name + " (" + err.Err.Error() + ")"
			}
		})
	}
	m.mu.Lock()
	for devpath, since := range m.loads {
		loading += "; " + since.Ago() + " for " + devpath
	}
	m.mu.Unlock()
	if failed == "" {
		failed = " none"
	}
	if loading != "" {
		loading = "; still loading:" + loading
	}
	return "modules that failed:" + failed + loading
}

// program returns what runs the modprobe program, or nil where there is none.
func (m *moduleLoader) program() func(args []string) error {
	path := modules.FindProgram()
	if path == "" {
		return nil
	}
	return func(args []string) error { return modules.RunProgram(path, args, m.Environ) }
}

// Load implements scheduler.ModuleLoader. Handles has opened the loader. The channel has room, so that
// the loader never waits.
func (m *moduleLoader) Load(alias, devpath string) error {
	m.mu.Lock()
	m.loads[devpath] = sys.Now() // a device has one event at a time
	m.mu.Unlock()
	done := make(chan error, 1)
	m.loader.Request(alias, func(err error) { done <- err })
	err := <-done
	m.mu.Lock()
	delete(m.loads, devpath)
	m.mu.Unlock()
	return err
}
