package reload

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/pieces"
	"devspool/hotplug/sys"
)

// debounce is how long nothing must happen to the file before a change is reported, so that the remove
// and the rename of an editor are one change.
const debounce = 100 * time.Millisecond

// watcher reports when the config in the file at a path changes: the file or a piece is edited in
// place, replaced by a rename, removed or made again, or one of these happens to a directory or a
// link that a path leads through. It watches all of these by inotify.
//
// It does not notice another file system that is mounted over a part of the path.
type watcher struct {
	path    string
	log     *log.Logger
	changed func()
	file    *os.File        // the inotify descriptor
	conn    syscall.RawConn // of file, to add watches though close may come meanwhile

	names  map[int][]string // by watch descriptor, the names in a directory that matter; anyName for all
	seen   string           // what the leases said of all files when changed was called last
	warned bool             // that a watch could not be added
}

// anyName stands for each file in a directory.
const anyName = ""

// newWatcher watches the file at an absolute path, which need not exist. It calls changed in a goroutine
// of its own, one call at a time.
func newWatcher(path string, logger *log.Logger, changed func()) (*watcher, error) {
	fd, err := sys.NewInotify()
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	w := &watcher{path: path, log: logger, changed: changed}
	if w.file, w.conn, err = sys.Polled(fd, "inotify"); err != nil {
		return nil, err
	}
	w.addWatches(uintptr(fd))
	// What changed before now is not reported. The caller reads the file once more after this.
	l := lease(path)
	l.release()
	w.seen = l.states
	go w.serve()
	return w, nil
}

// close ends the watch. A call of changed may be under way.
func (w *watcher) close() { w.file.Close() }

// serve waits for inotify events, and for the time without them that debounce is, until the watch is
// closed.
func (w *watcher) serve() {
	buf := make([]byte, 4<<10)
	for {
		n, err := w.file.Read(buf)
		switch {
		case err == nil:
			if w.isRelevant(buf[:n]) {
				_ = w.conn.Control(w.addWatches)
				w.file.SetReadDeadline(time.Now().Add(debounce))
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			w.file.SetReadDeadline(time.Time{})
			w.notify()
		default:
			return
		}
	}
}

// notify calls changed if a file has changed. It does not while a process has one open for
// writing: the close is another event.
func (w *watcher) notify() {
	l := lease(w.path)
	l.release()
	if l.written == "" && l.states != w.seen {
		w.seen = l.states
		w.changed()
	}
}

// isRelevant reports whether one of the inotify events in buf may be about the config.
func (w *watcher) isRelevant(buf []byte) bool {
	found := false
	_, lost := sys.EachInotifyEvent(buf, func(e *unix.InotifyEvent, name []byte) {
		// An event without a name is about the directory, or the file, that is watched.
		names, watched := w.names[int(e.Wd)]
		found = found || watched && (len(name) == 0 || slices.Contains(names, string(name)) || slices.Contains(names, anyName))
	})
	return found || lost
}

// directoryEvents is what is watched of a directory: files that are made, removed, renamed or written,
// and its own removal.
const directoryEvents = unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVE | unix.IN_DELETE_SELF | unix.IN_ONLYDIR

// addWatches watches the directories of pieces, the pieces, and the file. It is called anew after each
// relevant event, since a path may lead elsewhere now.
func (w *watcher) addWatches(fd uintptr) {
	before := w.names
	w.names = map[int][]string{}
	for _, dir := range pieces.Dirs(w.path) {
		w.addPath(fd, dir, directoryEvents)
	}
	for _, path := range pieces.Files(w.path) { // listed when their directories are watched
		w.addPath(fd, path, unix.IN_CLOSE_WRITE)
	}
	// Watches that are still wanted were added again above, which keeps them: so no change is
	// missed between the two.
	for wd := range before {
		if _, still := w.names[wd]; !still {
			unix.InotifyRmWatch(int(fd), uint32(wd))
		}
	}
}

// addPath watches each directory that a path leads through, as far as these exist, and what is at
// its end for events: a file may be written by another of its names. It watches a directory before
// it reads from it, so that a change in between is an event.
func (w *watcher) addPath(fd uintptr, path string, events uint32) {
	dir, links := "", 0
	rest := strings.Split(path, "/")
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." { // in a link's text; dir itself holds no link
			dir = dir[:max(0, strings.LastIndexByte(dir, '/'))]
			continue
		}
		if !w.add(fd, dir+"/", name, directoryEvents) {
			break
		}
		text, err := sys.ReadLink(dir + "/" + name)
		if err != nil { // not a link; where it is missing the next add fails
			dir += "/" + name
			continue
		}
		if links++; links > sys.MaxLinks {
			break
		}
		if strings.HasPrefix(text, "/") {
			dir = ""
		}
		rest = append(strings.Split(text, "/"), rest...)
	}
	if len(rest) == 0 {
		w.add(fd, dir, anyName, events)
	}
}

// add watches the file at path, and reports whether it exists. name is the name that matters in a
// directory. A directory that several paths lead through has one watch, with the names of all.
func (w *watcher) add(fd uintptr, path, name string, events uint32) bool {
	wd, err := unix.InotifyAddWatch(int(fd), path, events)
	switch err {
	case nil:
		w.names[wd] = append(w.names[wd], name)
		return true
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
		return false
	}
	if !w.warned {
		w.warned = true
		w.log.Print(log.Warning, "changes of "+w.path+" may not be noticed: cannot watch "+path+": "+err.Error())
	}
	return false
}
