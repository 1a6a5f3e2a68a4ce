package nodes

import (
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// parent is the open directory that a path's last part lies in.
type parent struct {
	fd      int
	name    string // the last part
	own     bool   // fd is to be closed
	inherit bool   // files made in it get its group, not ours
	kept    int8   // one more than its place in tree.kept, or 0
}

// close closes the descriptor where it is the own one of p: that of /dev or of a kept directory stays open.
func (p parent) close() {
	if p.own {
		sys.Close(p.fd)
	}
}

// keptParent is a directory in which a link was made, or from which something was removed: what
// many devices have lies in a few. It stays open until forget is called.
type keptParent struct {
	fd      int
	inherit bool
	dir     string // its path below /dev while it is open, or ""
	emptied string // a path in it from which something was removed, or ""

	// Links that were found as they are to be need not be looked at again while the state of
	// the directory stays the same. What is known of them outlives forget.
	path    string // what dir was last
	state   dirState
	targets map[string]string // of these links, by path
	settled bool              // a later change leads to another state
	stale   bool              // the directory was changed here, after its state was read
	seen    bool              // the state was compared since the last forget
}

// maxKept is how many directories stay open: more than those in which a disk has its names.
const maxKept = 12

// maxRight is how many links a keptParent remembers at most. One more makes it forget them all,
// which costs a look at each again.
const maxRight = 1024

// dirState is a directory as it is since its last change. Whatever is made or removed in it, by
// anybody, is a change.
type dirState struct {
	ino     uint64
	changed int64 // when, in nanoseconds since 1970
}

// stateOf returns the state of the directory that st is about. Its ctime tells every creation
// and removal in it.
func stateOf(st *unix.Statx_t) dirState {
	return dirState{st.Ino, st.Ctime.Sec*1e9 + int64(st.Ctime.Nsec)}
}

// keep keeps the parent of path open. If it is /dev itself there is nothing to keep. No other
// directory was opened since p was: t.opened is the state of p's. The tree closes p's descriptor
// from here on; p must not be used after the next forget.
func (t *tree) keep(path string, p parent) parent {
	if !p.own {
		return p
	}
	is := t.opened
	i := t.room(is.ino)
	k := &t.kept[i]
	k.fd, k.inherit, k.dir = p.fd, p.inherit, path[:len(path)-len(p.name)-1]
	k.path, k.seen = k.dir, true
	// Another process has changed the directory since, or it is another directory.
	if k.stale || k.state.ino != is.ino || k.state.changed != is.changed {
		k.state, k.settled, k.stale = is, false, false
		clear(k.targets)
	}
	p.own, p.kept = false, int8(i+1)
	return p
}

// room returns where a directory can be kept: where it was before, if possible.
func (t *tree) room(ino uint64) (free int) {
	free = maxKept
	for i := range t.kept {
		if k := &t.kept[i]; k.dir == "" && (free == maxKept || k.state.ino == ino) {
			free = i
		}
	}
	if free == maxKept {
		t.forget()
		free = 0
	}
	return free
}

// forget closes the kept parents, and removes those that are empty by now. It reports whether
// that may be so. The descriptors are closed first: parent would find a directory by a kept one
// although it is removed.
func (t *tree) forget() (pruned bool) {
	for i := range t.kept {
		k := &t.kept[i]
		if k.seen = false; k.dir != "" {
			sys.Close(k.fd)
			k.dir = ""
		}
	}
	for i := range t.kept {
		path := t.kept[i].emptied
		if t.kept[i].emptied = ""; path != "" {
			t.prune(path)
			pruned = true
		}
	}
	return pruned
}

// keptOf returns what is known of dir if it is kept, or nil.
func (t *tree) keptOf(dir parent) *keptParent {
	if dir.kept == 0 {
		return nil
	}
	return &t.kept[dir.kept-1]
}

// addRight notes that the link at path leads to target. As long as a change could leave the
// directory's state as it is, nothing is noted: the note would outlive the link.
func (k *keptParent) addRight(path, target string) {
	if k == nil || k.stale || !k.settled && !k.state.isPast() {
		return
	}
	// Once is enough: the state is compared from now on, and a change leads to another one.
	if k.settled = true; k.targets == nil || len(k.targets) == maxRight {
		k.targets = map[string]string{}
	}
	k.targets[path] = target
}

// isRight reports whether a link at path is known to lead to target, and nothing has changed in
// its directory since. Where that lies in /dev itself, one look is enough for it: what is true of most
// devices costs them no more than that.
func (t *tree) isRight(path, target string) bool {
	dir := path[:max(0, strings.LastIndexByte(path, '/'))]
	for i := range t.kept {
		k := &t.kept[i]
		if k.path != dir || k.targets[path] != target {
			continue
		}
		if k.seen || strings.IndexByte(dir, '/') >= 0 {
			return k.seen
		}
		var st unix.Statx_t
		k.seen = sys.Stat(t.fd, dir, unix.AT_SYMLINK_NOFOLLOW, &st) == nil && stateOf(&st) == k.state &&
			t.sameDevice(&st) && !t.isMountedOver(&st)
		return k.seen
	}
	return false
}

// isPast reports whether a change that comes now leads to another dirState for certain. Changes
// get their times by a clock that goes in steps, and on some file systems whole seconds.
func (s dirState) isPast() bool {
	const second = 1e9
	var now unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now)
	return err == nil && now.Nano() > s.changed && s.changed%second != 0
}

// changes is called before anything in the directory is changed here: its state is known no more.
func (k *keptParent) changes() {
	if k != nil {
		clear(k.targets)
		k.stale = true
	}
}
