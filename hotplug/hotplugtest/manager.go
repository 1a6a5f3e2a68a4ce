package hotplugtest

import (
	"fmt"

	"devspool/hotplug/log"
)

// Manager is a udev.Manager that collects what it is asked for.
type Manager struct {
	Collected[string]
	Pinged func() // is called by Ping; nil for nothing
}

func (m *Manager) Ping() {
	if m.Pinged != nil {
		m.Pinged()
	}
	m.Add("ping")
}

func (m *Manager) Reload() error                 { m.Add("reload"); return nil }
func (m *Manager) Pause()                        { m.Add("stop") }
func (m *Manager) Resume()                       { m.Add("start") }
func (m *Manager) End()                          { m.Add("exit") }
func (m *Manager) SetLevel(level log.Level)      { m.Add("log " + level.String()) }
func (m *Manager) SetJobs(n int)                 { m.Add(fmt.Sprint("children ", n)) }
func (m *Manager) SetProperty(key, value string) { m.Add("property " + key + "=" + value) }
