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
	"devspool/hotplug/sys"
)

// Debounce is how long nothing may happen until a change counts, so that an editor's
// remove and rename are one.
const Debounce = 100 * time.Millisecond

// watcher tells when the file at a path has become another one, or has other
// content: edited in place, renamed over, removed, made again; also where this
// happens to a directory or a link that the path leads through.
//
// What another file system brings that is mounted over a part of the path it
// cannot see.
type watcher struct {
	path    string
	log     *log.Logger
	changed func()
	file    *os.File // inotify's
	conn    syscall.RawConn

	names   map[int][]string // what matters in each that is watched
	seen    fileState
	refused bool // a watch was; said once
}

// fileState tells one state of a file from another. The zero value is that of
// no file.
type fileState struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// newWatcher watches the file at an absolute path, which need not be there.
// It calls changed in a goroutine of its own, one call at a time.
func newWatcher(path string, logger *log.Logger, changed func()) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	w := &watcher{path: path, log: logger, changed: changed, file: os.NewFile(uintptr(fd), "inotify")}
	if w.conn, err = w.file.SyscallConn(); err != nil {
		return nil, err
	}
	w.conn.Control(w.addWatches)
	w.seen = stateOf(path)
	go w.serve()
	return w, nil
}

// close ends the watch. A call of changed may still be under way.
func (w *watcher) close() { w.file.Close() }

// serve waits for what happens until the watch is closed.
func (w *watcher) serve() {
	buf := make([]byte, 4<<10)
	for {
		n, err := w.file.Read(buf)
		switch {
		case err == nil:
			if w.isRelevant(buf[:n]) {
				w.conn.Control(w.addWatches)
				w.file.SetReadDeadline(time.Now().Add(Debounce))
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			w.file.SetReadDeadline(time.Time{})
			w.notify()
		default:
			return
		}
	}
}

// notify calls changed, if the file is another one now. One that somebody writes
// is left alone, since its close will be seen too.
func (w *watcher) notify() {
	release, written := lease(w.path)
	release()
	if written {
		return
	}
	if now := stateOf(w.path); now != w.seen {
		w.seen = now
		w.changed()
	}
}

// isRelevant reports whether one of the events in buf is about the path.
func (w *watcher) isRelevant(buf []byte) bool {
	found := false
	_, lost := sys.EachInotifyEvent(buf, func(e *unix.InotifyEvent, name []byte) {
		// Without a name it is about the directory itself, or the file.
		names, watched := w.names[int(e.Wd)]
		found = found || watched && (len(name) == 0 || slices.Contains(names, string(name)))
	})
	return found || lost
}

// What is watched of a directory: names that come, go or are written, and its own end.
const directoryEvents = unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVE | unix.IN_DELETE_SELF | unix.IN_ONLYDIR

// addWatches watches each directory that the path leads through, as far as it is there,
// and the file, which may be written by another of its names. A directory is
// watched before it is looked into, so what happens in between is an event.
func (w *watcher) addWatches(fd uintptr) {
	before := w.names
	w.names = map[int][]string{}
	dir, links := "", 0
	rest := strings.Split(w.path, "/")
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." { // of a link; dir itself leads through none
			dir = dir[:max(0, strings.LastIndexByte(dir, '/'))]
			continue
		}
		if !w.add(fd, dir+"/", name, directoryEvents) {
			break
		}
		text, err := sys.ReadLink(dir + "/" + name)
		if err != nil { // no link; it may be missing, which add finds out
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
		w.add(fd, dir, "", unix.IN_CLOSE_WRITE)
	}
	for wd := range before {
		if _, still := w.names[wd]; !still {
			unix.InotifyRmWatch(int(fd), uint32(wd))
		}
	}
}

// add watches what is at path, and reports whether it is there. Of a directory
// name matters.
func (w *watcher) add(fd uintptr, path, name string, events uint32) bool {
	wd, err := unix.InotifyAddWatch(int(fd), path, events)
	switch err {
	case nil:
		w.names[wd] = append(w.names[wd], name)
		return true
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
		return false
	}
	if !w.refused {
		w.refused = true
		w.log.Print(log.Warning, "changes of "+w.path+" may go unseen: cannot watch "+path+": "+err.Error())
	}
	return false
}

func stateOf(path string) fileState {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return fileState{}
	}
	return fileState{uint64(st.Dev), st.Ino, int64(st.Size), st.Mtim, st.Ctim}
}
