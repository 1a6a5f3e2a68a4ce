// Helper is a kernel helper for the stress test: the real one but for what the
// event's variables ask for. STRESS_DIR is a directory with the sysfs (sys) and the
// log (done), to which it appends the number of each event that it has done and its
// own; STRESS_STAY how long it stays as the server, in microseconds.
package main

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug/handoff"
	"devspool/hotplug/helper"
	"devspool/hotplug/log"
	"devspool/hotplug/reload"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

func main() {
	environ := os.Environ()
	if handoff.Offer(environ) {
		return
	}
	if err := run(environ); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func run(environ []string) error {
	unix.Umask(0)
	dir := os.Getenv("STRESS_DIR")
	stay, err := strconv.Atoi(os.Getenv("STRESS_STAY"))
	if err != nil {
		return err
	}
	done, err := os.OpenFile(dir+"/done", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	e, err := uevent.FromEnviron(environ)
	if err != nil {
		return err
	}
	dev, err := nodes.Open("/dev")
	if err != nil {
		return err
	}
	rules := conf.Parse("none", "", conf.IDs{})
	fs, logger := sysfs.FS(dir+"/sys"), log.Stderr()
	sched := scheduler.New(scheduler.Options{Rules: rules, Dev: dev, Sys: fs, Log: logger, Environ: environ, Sinks: []scheduler.Sink{{
		Done: func(e *uevent.Event, _ *nodes.Plan) {
			if e.Seqnum != 0 {
				done.WriteString(strconv.FormatUint(e.Seqnum, 10) + " " + strconv.Itoa(os.Getpid()) + "\n")
			}
		},
	}}})
	helper.Serve(helper.Options{
		Scheduler: sched, Config: reload.New("/nonexistent", rules, nil, sched.SetRules, logger),
		Dev: dev, Sys: fs, Log: logger, Environ: environ, Linger: time.Duration(stay) * time.Microsecond,
	}, e)
	return nil
}
