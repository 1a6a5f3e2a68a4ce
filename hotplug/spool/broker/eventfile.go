package broker

import (
	"strconv"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// file is an event that is on its way into queues. It has no name of its own, so
// that a crash leaves nothing, unless it needs one to last.
type file struct {
	fd     int
	name   string // what it is called in queues
	text   []byte
	made   bool   // it lies in making
	held   bool   // it is held back
	extra  string // what its name in making has more, where another is under way
	fitted *file  // the same for libudev-compat, where it differs
}

// newFile writes an event, complete and 0444 before anybody sees it.
func (s *Broker) newFile(text []byte, name string) (*file, error) {
	f := &file{fd: sys.None, name: name, text: text}
	if s.under++; s.under > 1 {
		f.extra = "+"
	}
	var err error
	if !s.noTmp {
		f.fd, err = nameless(s.making, 0o444)
		s.noTmp = err == unix.EOPNOTSUPP || err == unix.EISDIR || err == unix.EINVAL
	}
	if s.noTmp {
		unix.Unlinkat(s.making, f.making(), 0) // of one that was killed
		f.fd, err = unix.Openat(s.making, f.making(), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o444)
		f.made = err == nil
	}
	if err != nil {
		f.fd = sys.None
		s.done(f)
		return nil, err
	}
	n, err := sys.Write(f.fd, text)
	if err == nil && n < len(text) {
		err = unix.ENOSPC
	}
	if err == nil {
		err = s.setMode(f)
	}
	if err != nil {
		s.done(f)
		return nil, err
	}
	return f, nil
}

// setMode gives f the mode that it has yet where the umask takes nothing from it.
func (s *Broker) setMode(f *file) error {
	if s.modeIs {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return err
	}
	if s.modeIs = st.Mode&0o7777 == 0o444; s.modeIs {
		return nil
	}
	return unix.Fchmod(f.fd, 0o444)
}

// making returns what f is called in making.
func (f *file) making() string { return f.name + f.extra }

// anchor gives f a name that no client can remove.
func (s *Broker) anchor(f *file) {
	if !f.made {
		f.made = s.link(f, s.making, f.making()) == nil
	}
}

// link gives f a name in a directory.
func (s *Broker) link(f *file, dir int, name string) error {
	if f.made && s.noTmp {
		return unix.Linkat(s.making, f.making(), dir, name, 0)
	}
	if !s.byProc {
		err := linkFD(f.fd, dir, name)
		s.byFD = s.byFD || err == nil
		if s.byFD || err != unix.ENOENT && err != unix.EPERM {
			return err
		}
	}
	// Without the capability that AT_EMPTY_PATH needs.
	err := unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(f.fd), dir, name, unix.AT_SYMLINK_FOLLOW)
	s.byProc = s.byProc || err == nil
	return err
}

// renew writes f anew, with a name of its own: quick clients have taken all its
// links away before the last queue had it, and a file without links cannot be
// linked again.
func (s *Broker) renew(f *file) error {
	again, err := s.newFile(f.text, f.name)
	if err != nil {
		return err
	}
	s.anchor(again)
	sys.Close(f.fd)
	f.fd, f.made, f.extra = again.fd, again.made, again.extra
	s.under--
	return nil
}

// done lets go of f.
func (s *Broker) done(f *file) {
	if f.fitted != nil && f.fitted != f {
		s.done(f.fitted)
	}
	if f.made {
		unlinkat(s.making, f.making())
	}
	sys.CloseAll(&f.fd)
	s.under--
}

// fitted returns f as libudev-compat can take it, which most often is f itself.
func (s *Broker) fitted(f *file) (*file, error) {
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
	s.log("events are too long for libudev-compat; it is not told all")
	if f.fitted, err = s.newFile(text, f.name); err != nil {
		return nil, err
	}
	s.anchor(f.fitted)
	return f.fitted, nil
}
