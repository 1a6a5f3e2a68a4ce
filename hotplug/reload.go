package hotplug

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug/log"
	"devspool/hotplug/sys"
)

// Renew reads the config anew and uses it from now on. A config that cannot be
// read, or that has a problem which the one in use has not, is reported and not
// used.
func (r *Road) Renew() error {
	if r.Reload == nil {
		return nil
	}
	r.renewing.Lock()
	defer r.renewing.Unlock()
	rules, err := r.reload()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		err = r.adopt(rules)
	}
	r.refused = nil
	if err != nil {
		r.refused = errors.New(err.Error() + "; the old config stays")
		r.Log.Print(log.Err, r.refused.Error())
	}
	return r.refused
}

// adopt uses another config, unless it has a problem which the one in use has not.
func (r *Road) adopt(rules *conf.Config) error {
	fresh := freshProblems(r.Rules, rules)
	if len(fresh) > 0 {
		LogProblems(r.Log, log.Err, fresh[1:])
		return errors.New(fresh[0].String())
	}
	r.Rules = rules
	r.Log.Print(log.Notice, "the config was read anew: "+rules.File())
	return nil
}

// freshProblems returns the problems of a new config that the old one has not,
// wherever they stand.
func freshProblems(old, renewed *conf.Config) (fresh []conf.Problem) {
	known := map[string]bool{}
	for _, p := range old.Problems {
		known[p.What+p.Remedy] = true
	}
	for _, p := range renewed.Problems {
		if !known[p.What+p.Remedy] {
			fresh = append(fresh, p)
		}
	}
	return fresh
}

// reload reads the config, unless somebody writes it. Who would begin to waits
// meanwhile.
func (r *Road) reload() (*conf.Config, error) {
	release, written := lease(r.Conf)
	defer release()
	if written {
		return nil, errors.New(r.Conf + " is being written")
	}
	return r.Reload()
}

// watchConf has the Road read its config anew whenever the file changes.
func (r *Road) watchConf() (stop func()) {
	if r.Reload == nil {
		return func() {}
	}
	w, err := newConfWatch(r.Conf, r.Log, func() { r.Renew() })
	if err != nil {
		r.Log.Print(log.Warning, "changes of "+r.Conf+" will go unseen: "+err.Error())
		return func() {}
	}
	// It may have become another one since it was read, before the watch began.
	if rules, err := r.reload(); err == nil {
		r.mu.Lock()
		r.Rules = rules
		r.mu.Unlock()
	}
	return w.close
}

// lease keeps the file at path as it is until release is called: who opens it for
// writing waits so long. Written tells that somebody has it open for writing
// already. On a file system that has no leases (NFS, FUSE) neither is known, and
// the pause has to do.
func lease(path string) (release func(), written bool) {
	fd, err := sys.OpenRegular(path)
	if err != nil {
		return func() {}, false
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	return func() { unix.Close(fd) }, err == unix.EAGAIN
}

// shownProblems is how many problems of a config the log gets: the first ones show
// what is wrong with a file that is no config at all.
const shownProblems = 10

// LogProblems writes what is wrong with a config: the first problems, a line each, and
// how many more there are.
func LogProblems(logger *log.Logger, level log.Level, problems []conf.Problem) {
	for _, p := range problems[:min(len(problems), shownProblems)] {
		logger.Print(level, p.String())
	}
	if more := len(problems) - shownProblems; more > 0 {
		logger.Print(level, problems[0].File+": "+strconv.Itoa(more)+" more problems; devspool --check shows them")
	}
}
