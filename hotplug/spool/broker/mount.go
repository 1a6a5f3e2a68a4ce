package broker

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/procfs"
	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

// The names below Options.Private.
const (
	place       = "spool" // all of the spool; where a tmpfs of its own is mounted
	placeEvents = "events"
	placeLib    = "libudev"
)

// place finds the spool, or makes it. Everything is opened through one mount, since
// a link does not cross from one to another; the roots that clients see are bound
// from it.
func (s *Broker) place() error {
	private, err := sys.OwnDirectory(unix.AT_FDCWD, s.o.Private)
	if err != nil {
		return spool.Failed("open", s.o.Private, err)
	}
	defer unix.Close(private)
	// One at a time, or two would mount over each other.
	if err := sys.RetryEINTR(func() error { return unix.Flock(private, unix.LOCK_EX) }); err != nil {
		return err
	}
	if s.dir, err = sys.OwnDirectory(private, place); err != nil {
		return err
	}
	mounted := s.mount(private)
	s.mounted = mounted
	var st unix.Stat_t
	if err := unix.Fstat(s.dir, &st); err != nil {
		return err
	}
	s.dev = uint64(st.Dev)
	for _, r := range []struct {
		path, name string
		libudev    bool
	}{{s.o.Events, placeEvents, false}, {s.o.Libudev, placeLib, true}} {
		if r.path == "" || s.o.Join && !sys.Exists(unix.AT_FDCWD, r.path) {
			continue
		}
		fd, err := s.openRoot(r.path, r.name, mounted)
		if err != nil {
			return err
		}
		path := r.path
		if mounted {
			path = s.o.Private + "/" + place + "/" + r.name
		}
		s.roots = append(s.roots, &root{fd: fd, path: path, libudev: r.libudev, watch: sys.None, makers: sys.None, names: map[string]*queue{}, made: map[string]procfs.Process{}})
	}
	return nil
}

// mount puts a tmpfs on the spool's directory, unless there is one already or it
// cannot be, and reports whether there is one.
func (s *Broker) mount(private int) bool {
	var above, st unix.Stat_t
	if unix.Fstat(private, &above) != nil || unix.Fstat(s.dir, &st) != nil {
		return false
	}
	if st.Dev != above.Dev {
		return true
	}
	// Where a spool lies already it stays, or its queues would be hidden.
	if !s.o.Mount || s.o.Join || unix.Fstatat(s.dir, "counter", &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		return false
	}
	for _, path := range []string{s.o.Events, s.o.Libudev} {
		if occupied(path) {
			s.log("queues lie in " + path + " already: they are served there, and no tmpfs is mounted, so that they share the limits of " + s.o.Private)
			return false
		}
	}
	on := s.o.Private + "/" + place
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	const options = "mode=0700,size=20%"
	// A user's own files in it are limited too, where the kernel can (6.6).
	data := options
	if hasQuota() {
		data += "," + quotaKey + "=" + quotaFiles
	}
	err := unix.Mount("devspool", on, "tmpfs", flags, data)
	if err != nil && data != options {
		err = unix.Mount("devspool", on, "tmpfs", flags, options)
	}
	if err != nil {
		s.log("not mounted: " + err.Error())
		return false
	}
	dir, err := sys.OwnDirectory(private, place)
	if err != nil {
		return false
	}
	unix.Close(s.dir)
	s.dir = dir
	return true
}

// The mount option that limits the files of one user.
const (
	quotaKey   = "usrquota_inode_hardlimit"
	quotaFiles = "16384"
)

// hasQuota reports whether tmpfs knows quotas. A mount(2) with an option that it does
// not know has the kernel complain in its log, this way of asking does not. Kernels
// without fsopen (before 5.2) have no quotas either.
func hasQuota() bool {
	fd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.FsconfigSetString(fd, quotaKey, quotaFiles) == nil
}

// occupied reports whether anything lies in the directory at path.
func occupied(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return len(sys.List(fd)) > 0
}

// Leave closes the spool as Close does, and unmounts what is mounted for it, unless
// queues are left, which the next start serves.
func (s *Broker) Leave() {
	var roots []string
	for _, path := range []string{s.o.Events, s.o.Libudev} {
		if path != "" {
			roots = append(roots, path)
		}
	}
	if err := s.Upkeep(); err != nil {
		s.log("not tended: " + err.Error())
	}
	queues, _, _ := s.Counts()
	mounted := s.mounted && s.o.Mount
	s.Close()
	if !mounted {
		return
	}
	if queues > 0 {
		s.log(strconv.Itoa(queues) + " queues have an owner still: what is mounted on " + strings.Join(roots, " and ") + " stays for the next start")
		return
	}
	s.unmount(roots)
}

// unmount takes the tmpfs away and the roots that are bound from it. The tmpfs is
// first: as long as another process has the spool open it is busy, and all stays.
func (s *Broker) unmount(roots []string) {
	private, err := sys.OwnDirectory(unix.AT_FDCWD, s.o.Private)
	if err != nil {
		return
	}
	defer unix.Close(private)
	if sys.RetryEINTR(func() error { return unix.Flock(private, unix.LOCK_EX) }) != nil {
		return
	}
	if err := unix.Unmount(s.o.Private+"/"+place, unix.UMOUNT_NOFOLLOW); err != nil {
		s.log(spool.Failed("unmount", s.o.Private+"/"+place, err).Error())
		return
	}
	for _, path := range roots {
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil && uint64(st.Dev) == s.dev {
			unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) // who only looks into it does not matter
		}
	}
}

// openRoot opens a root and shows it to clients at a path.
func (s *Broker) openRoot(at, name string, mounted bool) (int, error) {
	var st unix.Stat_t
	if unix.Lstat(at, &st) == unix.ENOENT {
		if err := sys.MakeParents(at); err != nil {
			return sys.None, err
		}
		if err := unix.Mkdir(at, 0o1777); err != nil && err != unix.EEXIST {
			return sys.None, err
		}
	}
	if mounted {
		return s.bindRoot(at, name)
	}
	fd, err := unix.Open(at, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return sys.None, err
	}
	err = unix.Fstat(fd, &st)
	if err == nil && (uint64(st.Dev) != s.dev || int(st.Uid) != unix.Geteuid()) {
		err = ErrUnusable
	}
	if err == nil {
		err = worldWritable(fd)
	}
	if err != nil {
		unix.Close(fd)
		return sys.None, err
	}
	return fd, nil
}

// bindRoot opens a root on the spool's own file system and binds it there,
// where it does not lie already.
func (s *Broker) bindRoot(at, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(s.dir, name, flags, 0)
	if err == unix.ENOENT {
		if err = unix.Mkdirat(s.dir, name, 0o1777); err == nil || err == unix.EEXIST {
			fd, err = unix.Openat(s.dir, name, flags, 0)
		}
	}
	if err != nil {
		return sys.None, err
	}
	var own, shown unix.Stat_t
	err = worldWritable(fd)
	if err == nil {
		err = unix.Fstat(fd, &own)
	}
	if err == nil && (unix.Lstat(at, &shown) != nil || shown.Dev != own.Dev || shown.Ino != own.Ino) {
		if s.o.Join {
			unix.Close(fd)
			return sys.None, ErrUnusable
		}
		err = unix.Mount(s.o.Private+"/"+place+"/"+name, at, "", unix.MS_BIND, "")
	}
	if err != nil {
		unix.Close(fd)
		return sys.None, err
	}
	return fd, nil
}

// worldWritable lets everybody make queues in a root, and nobody remove another's.
func worldWritable(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&0o7777 == 0o1777 {
		return err
	}
	return unix.Fchmod(fd, 0o1777)
}
