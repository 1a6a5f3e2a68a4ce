package broker

import (
	"strconv"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// eventFiles writes events as files, and links them into directories.
type eventFiles struct {
	making int // the directory for files that need a name of their own
	notice func(text string)

	noTmpfile   bool // O_TMPFILE is missing (before 3.11, and on some file systems)
	viaFD       bool // AT_EMPTY_PATH is permitted
	viaProc     bool // it is not: link /proc/self/fd/N
	modeIsRight bool // the umask takes nothing away from 0444, as was seen of a file before
	open        int  // how many files are open, for names in making that do not clash
}

// eventFile is an event on its way into queues. It has no name of its own, so that a
// crash leaves nothing, unless it needs one so as not to vanish.
type eventFile struct {
	fd     int    // open for writing, and for linkat(2) to link from
	name   string // its name in queues
	making string // its name in making: another one where two are open at once
	text   []byte
	named  bool       // it has a name in making
	kept   bool       // it is in the backlog
	fitted *eventFile // the same event for libudev-compat; itself where nothing differs
}

// create writes an event. It is complete, with mode 0444, before it has a name.
func (ef *eventFiles) create(text []byte, name string) (*eventFile, error) {
	f := &eventFile{fd: sys.None, name: name, making: name, text: text}
	if ef.open++; ef.open > 1 {
		f.making += "+"
	}
	err := ef.write(f)
	if err != nil {
		ef.close(f)
		return nil, err
	}
	return f, nil
}

// write opens the file of f and fills it. Without O_TMPFILE that needs a name.
func (ef *eventFiles) write(f *eventFile) (err error) {
	if !ef.noTmpfile {
		// A file system without O_TMPFILE returns EOPNOTSUPP. A kernel without it takes the
		// call for one that opens the directory itself, for writing.
		f.fd, err = sys.OpenUnnamed(ef.making, 0o444)
		ef.noTmpfile = err == unix.EOPNOTSUPP || err == unix.EISDIR || err == unix.EINVAL
	}
	if ef.noTmpfile {
		unix.Unlinkat(ef.making, f.making, 0) // left by a publisher that was killed
		f.fd, err = unix.Openat(ef.making, f.making, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o444)
		f.named = err == nil
	}
	if err != nil {
		f.fd = sys.None
		return err
	}
	n, err := sys.Write(f.fd, f.text)
	// A full tmpfs writes what fits, and fails only where nothing does.
	if err == nil && n < len(f.text) {
		err = unix.ENOSPC
	}
	if err == nil {
		err = ef.setMode(f)
	}
	return err
}

// setMode sets the mode of f, unless the last file had the right one from the start.
func (ef *eventFiles) setMode(f *eventFile) error {
	if ef.modeIsRight {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return err
	}
	if ef.modeIsRight = st.Mode&0o7777 == 0o444; ef.modeIsRight {
		return nil
	}
	return unix.Fchmod(f.fd, 0o444)
}

// anchor gives f a name that no client can remove. Where it fails, f stays without, and can be
// recreated once all its links are gone.
func (ef *eventFiles) anchor(f *eventFile) {
	if !f.named {
		f.named = ef.link(f, ef.making, f.making) == nil
	}
}

// link gives f a name in a directory.
func (ef *eventFiles) link(f *eventFile, dir int, name string) error {
	if f.named && ef.noTmpfile {
		return unix.Linkat(ef.making, f.making, dir, name, 0)
	}
	if !ef.viaProc {
		// ENOENT says either that the capability for AT_EMPTY_PATH is missing, or that f has no
		// link left. Where the call worked before, it is the second, which recreate mends.
		err := sys.LinkFD(f.fd, dir, name)
		ef.viaFD = ef.viaFD || err == nil
		if ef.viaFD || err != unix.ENOENT && err != unix.EPERM {
			return err
		}
	}
	// Without the capability that AT_EMPTY_PATH needs.
	err := unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(f.fd), dir, name, unix.AT_SYMLINK_FOLLOW)
	ef.viaProc = ef.viaProc || err == nil
	return err
}

// recreate writes f again, with a name of its own. Fast clients may remove all links of
// an event before the last queue has it, and a file without links cannot be linked.
func (ef *eventFiles) recreate(f *eventFile) error {
	again, err := ef.create(f.text, f.name)
	if err != nil {
		return err
	}
	ef.anchor(again)
	sys.Close(f.fd)
	f.fd, f.named, f.making = again.fd, again.named, again.making
	ef.open-- // create counted the file that f takes over
	return nil
}

// close closes f, and the version of it for libudev-compat. The queues and the backlog keep their
// links; only the name in making goes.
func (ef *eventFiles) close(f *eventFile) {
	if f.fitted != nil && f.fitted != f {
		ef.close(f.fitted)
	}
	if f.named {
		sys.Unlinkat(ef.making, f.making)
	}
	sys.CloseAll(&f.fd)
	ef.open--
}

// fit returns f as libudev-compat can take it, which most often is f itself.
func (ef *eventFiles) fit(f *eventFile) (*eventFile, error) {
	if f.fitted != nil {
		return f.fitted, nil
	}
	text, cut, err := FitLibudev(f.text)
	if err != nil {
		return nil, err
	}
	if len(cut) == 0 {
		f.fitted = f
		return f, nil
	}
	ef.notice("an event is too long for libudev-compat, which gets a part of it")
	if f.fitted, err = ef.create(text, f.name); err != nil {
		return nil, err
	}
	ef.anchor(f.fitted)
	return f.fitted, nil
}
