package scheduler

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/netlink"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// renameLimit is how long the event of an interface waits for another one to give up the
// name that it is to have.
const renameLimit = 10 * time.Second

// renameLocked has a network interface renamed as a rule says, and reports whether t is started
// again when that is done. The kernel's move event, which follows, waits for t.
func (s *Scheduler) renameLocked(t *task) bool {
	e, rename := t.event, t.plan.Rename
	if rename == nil || rename.Name == e.Sysname() || e.Subsystem != "net" || e.Action != uevent.Add || s.applier.isDryRun() || !s.applier.sys.IsKernels() {
		return false
	}
	// By the index: the name may be another interface's by now.
	text, _ := e.Get("IFINDEX")
	index, _ := strconv.Atoi(text)
	is, err := "", error(nil)
	s.runAsync(s.pool.inFlight.Go, func() { is, err = renameInterface(index, e.Sysname(), rename.Name) }, func() {
		if is != e.Sysname() {
			// Commands and clients get the interface under the name that it has now.
			t.event = e.Renamed(is)
			s.log.Event(log.Info, "renamed", e, is)
		}
		t.plan.Event, t.plan.Rename, t.plan.Faults = t.event, nil, nil // done, and told
		for i := range t.plan.Commands {
			if c := &t.plan.Commands[i]; c.Node == e.Sysname() {
				c.Node = is
			}
		}
		if err != nil && err != unix.ENODEV { // it has left
			why := "to " + rename.Name + ": " + err.Error()
			// Before Linux 6.2 an interface that is up cannot be renamed.
			if err == unix.EBUSY {
				why += ": this kernel renames none that is up; set it down first"
			}
			s.failures.add(t.batch, e, "not renamed", why)
		}
		s.restartYield(t)
	})
	return true
}

// renameInterface returns what the interface is called then, also where there is an error. A
// name may be that of an interface which is to have another one: two that swap their names.
// So this one steps aside and waits for its turn.
func renameInterface(index int, old, name string) (is string, err error) {
	is = old
	for begun := sys.Now(); ; time.Sleep(sys.PollInterval) {
		if err = netlink.RenameLink(index, name); err == nil {
			return name, nil
		}
		if err != unix.EEXIST || begun.Age() > renameLimit {
			break
		}
		aside := "rename" + strconv.Itoa(index)
		// The index makes the name unique.
		if is == old && netlink.RenameLink(index, aside) == nil {
			is = aside
		}
	}
	// The old name is better than the one that only stands aside.
	if is != old && netlink.RenameLink(index, old) == nil {
		is = old
	}
	return is, err
}
