package broker

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/procfs"
	"devspool/hotplug/sys"
)

// The names below Options.Private.
const (
	spoolDir   = "spool" // all of the spool; its own tmpfs is mounted here
	eventsDir  = "events"
	libudevDir = "libudev"

	heldDir    = "held"   // events that are kept for slow queues
	recordsDir = "queues" // what is kept of each queue
	makingDir  = "making" // files and links that are being made
	trashDir   = "trash"  // queues that are being removed
)

// space is where the spool lies: its directories, the tmpfs it may have of its own, and
// the lock that publishers share.
type space struct {
	options *Options
	notice  func(text string)

	path    string // where the spool lies, once it is open
	dir     int    // the spool's directory, which only its user may enter
	lock    int    // the file that is locked while a publisher works
	dev     uint64 // the file system that all of the spool lies on
	mounted bool   // that is a tmpfs of its own

	noOpenat2 bool // the kernel has no openat2
	dirSizes  bool // the size of a directory tells how many entries it has

	buffer [4096]byte // for listing directories and reading inotify
}

// open finds the spool or makes it, and returns its roots.
func (s *space) open() ([]*root, error) {
	s.path = s.options.Private + "/" + spoolDir
	private, err := s.lockPrivate()
	if err != nil {
		return nil, err
	}
	defer unix.Close(private) // and so unlock it
	roots, err := s.openRoots(private)
	for err == errCovered {
		s.retreat(roots)
		roots, err = s.openRoots(private) // and no tmpfs is mounted, because of that queue
	}
	return roots, err
}

// place is where clients see a root, and its name in the spool.
type place struct{ path, name string }

// places returns those that are asked for.
func (s *space) places() (places []place) {
	for _, p := range []place{{s.options.Events, eventsDir}, {s.options.Libudev, libudevDir}} {
		if p.path != "" {
			places = append(places, p)
		}
	}
	return places
}

// errCovered says that a mount covered the queue of a client that had seen the new root
// before the mount was there.
var errCovered = errors.New("a client was faster than the mount on the root of its queue")

// retreat takes back what openRoots opened and mounted, so that openRoots can be called again. It
// brings the clients' queues that the mounts covered back to sight.
func (s *space) retreat(roots []*root) {
	for _, r := range roots {
		unix.Close(r.fd)
	}
	s.unmountRoots()
	unix.Close(s.dir)
	unix.Unmount(s.path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
}

// openRoots opens all through one mount, since a link cannot cross from one mount to
// another; the roots that clients see are bound from there. With an error come the roots that
// were opened before it.
func (s *space) openRoots(private int) ([]*root, error) {
	var err error
	if s.dir, err = sys.OwnDirectory(private, spoolDir); err != nil {
		return nil, err
	}
	before := s.isMounted(private) // another publisher has it open, or an earlier one left it
	s.mounted = before || s.mount(private)
	made := s.mounted && !before // by this call, so clients may have used the directories below it
	var st unix.Stat_t
	if err := unix.Fstat(s.dir, &st); err != nil {
		return nil, err
	}
	s.dev = uint64(st.Dev)
	var roots []*root
	for _, p := range s.places() {
		if s.options.Join && !sys.Exists(unix.AT_FDCWD, p.path) {
			continue
		}
		fd, err := s.openRoot(p, made)
		if err != nil {
			return roots, err
		}
		path := p.path
		if s.mounted {
			path = s.path + "/" + p.name
		}
		roots = append(roots, &root{fd: fd, path: path, libudev: p.name == libudevDir, watch: sys.None, fanotify: sys.None,
			names: map[string]*queue{}, creators: map[string]procfs.Process{}})
	}
	return roots, nil
}

// lockPrivate opens the private directory and locks it, so that no two publishers mount
// over each other. Closing it unlocks it.
func (s *space) lockPrivate() (int, error) {
	fd, err := sys.OwnDirectory(unix.AT_FDCWD, s.options.Private)
	if err == nil {
		if err = sys.Flock(fd, unix.LOCK_EX); err == nil {
			return fd, nil
		}
		unix.Close(fd)
	}
	return sys.None, sys.PathError("open", s.options.Private, err)
}

// isMounted reports whether the spool's directory has a tmpfs of its own.
func (s *space) isMounted(private int) bool {
	var above, st unix.Stat_t
	return unix.Fstat(private, &above) == nil && unix.Fstat(s.dir, &st) == nil && st.Dev != above.Dev
}

// mount mounts a tmpfs on the spool's directory, which has none, unless that is impossible, and
// reports whether it did.
func (s *space) mount(private int) bool {
	var st unix.Stat_t
	// An existing spool stays where it is: a mount would hide its queues.
	if !s.options.Mount || s.options.Join || unix.Fstatat(s.dir, "counter", &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		return false
	}
	for _, p := range s.places() {
		if n, _ := countEntries(p.path); n > 0 {
			s.notice("serving the queues that are in " + p.path + ": no tmpfs is mounted, so they share the limits of " + s.options.Private)
			return false
		}
	}
	// Users write to it, so nothing in it may be run or be a device. The size is a limit, of
	// the memory of the machine, and takes none in advance.
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	const options = "mode=0700,size=20%" // of the memory, see tmpfs(5)
	// A user's own files in it are limited too, where the kernel can.
	err := error(unix.EINVAL)
	if hasQuota() {
		err = unix.Mount("devspool", s.path, "tmpfs", flags, options+","+quotaKey+"="+quotaFiles)
	}
	if err != nil {
		err = unix.Mount("devspool", s.path, "tmpfs", flags, options)
	}
	if err != nil {
		s.notice("cannot mount a tmpfs on " + s.path + ": " + err.Error())
		return false
	}
	// s.dir is still the directory that the mount covers.
	dir, err := sys.OwnDirectory(private, spoolDir)
	if err != nil {
		return false
	}
	unix.Close(s.dir)
	s.dir = dir
	return true
}

// The mount option that limits the files of one user (Linux 6.6).
const (
	quotaKey   = "usrquota_inode_hardlimit"
	quotaFiles = "16384"
)

// hasQuota reports whether tmpfs has quotas. mount(2) with an unknown option makes the
// kernel log an error, and asking this way does not. Kernels without fsopen (before 5.2)
// have no quotas either.
func hasQuota() bool {
	fd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	err = unix.FsconfigSetString(fd, quotaKey, quotaFiles)
	unix.Close(fd)
	return err == nil
}

// countEntries returns how many entries the directory at path has.
func countEntries(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	n := len(sys.List(fd))
	unix.Close(fd)
	return n, nil
}

// openRoot opens a root, and shows it to clients at a path. Where the tmpfs was made now,
// the error is errCovered if a client has made a queue there before that.
func (s *space) openRoot(p place, made bool) (int, error) {
	var st unix.Stat_t
	if unix.Lstat(p.path, &st) == unix.ENOENT {
		if err := sys.MakeParents(p.path); err != nil {
			return sys.None, err
		}
		if err := unix.Mkdir(p.path, 0o1777); err != nil && err != unix.EEXIST {
			return sys.None, err
		}
	}
	if s.mounted {
		// below is the directory that the bind is about to cover. A queue in it is that of a client that
		// was faster.
		below := sys.None
		if made {
			below, _ = unix.Open(p.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			defer sys.CloseAll(&below)
		}
		fd, err := s.bindRoot(p)
		if err == nil && countQueues(below) > 0 {
			unix.Close(fd)
			return sys.None, errCovered
		}
		return fd, err
	}
	fd, err := unix.Open(p.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return sys.None, err
	}
	// The owner of a directory may remove and rename what is in it, whatever its sticky bit
	// says. Links need one file system.
	err = unix.Fstat(fd, &st)
	if err == nil && (uint64(st.Dev) != s.dev || int(st.Uid) != unix.Geteuid()) {
		err = ErrUnusable
	}
	if err == nil {
		err = makeWorldWritable(fd)
	}
	if err != nil {
		unix.Close(fd)
		return sys.None, err
	}
	return fd, nil
}

// countQueues returns how many queues clients have made in a directory. One that is being
// made has a name with a dot, and does not count: where its directory is covered or unmounted,
// its client cannot rename it, and so knows.
func countQueues(dir int) (n int) {
	for _, name := range sys.List(dir) {
		if name[0] != '.' {
			n++
		}
	}
	return n
}

// bindRoot opens a root on the spool's own tmpfs and binds it to its path, unless it is
// bound already.
func (s *space) bindRoot(p place) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(s.dir, p.name, flags, 0)
	if err == unix.ENOENT {
		if err = unix.Mkdirat(s.dir, p.name, 0o1777); err == nil || err == unix.EEXIST {
			fd, err = unix.Openat(s.dir, p.name, flags, 0)
		}
	}
	if err != nil {
		return sys.None, err
	}
	var own, shown unix.Stat_t
	err = makeWorldWritable(fd)
	if err == nil {
		err = unix.Fstat(fd, &own)
	}
	if err == nil && (unix.Lstat(p.path, &shown) != nil || shown.Dev != own.Dev || shown.Ino != own.Ino) {
		// A publisher with Join mounts nothing: where clients do not see this root, it has none to serve.
		if err = ErrUnusable; !s.options.Join {
			err = s.bind(p)
		}
	}
	if err != nil {
		unix.Close(fd)
		return sys.None, err
	}
	return fd, nil
}

// bind shows a root of the spool's tmpfs at the path where clients look for it.
func (s *space) bind(p place) error {
	return unix.Mount(s.path+"/"+p.name, p.path, "", unix.MS_BIND, "")
}

// makeWorldWritable lets every user make queues in a root, and none remove another's: mode
// 1777, from which mkdir takes what the umask says.
func makeWorldWritable(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&0o7777 == 0o1777 {
		return err
	}
	return unix.Fchmod(fd, 0o1777)
}

// Leave closes the spool as Close does, and unmounts it where Mount is set and no queue
// is left. Else the next start serves the queues.
func (b *Broker) Leave() {
	// Clients that end in a shutdown may not have removed their queues yet; those would count.
	if err := b.Upkeep(); err != nil {
		b.notice("cannot clean up the queues: " + err.Error())
	}
	queues, _, _ := b.Counts()
	b.Close()
	if !b.space.mounted || !b.options.Mount {
		return
	}
	if queues > 0 {
		b.space.leaveMounted(queues)
		return
	}
	b.space.unmount()
}

// leaveMounted says why the mounts stay. It changes nothing.
func (s *space) leaveMounted(queues int) {
	var paths []string
	for _, p := range s.places() {
		paths = append(paths, p.path)
	}
	s.notice(strconv.Itoa(queues) + " queues still have an owner: " + strings.Join(paths, " and ") +
		" stay mounted for the next start")
}

// unmount unmounts the roots, and then the tmpfs that they are bound from. While another
// process has the spool open the tmpfs is busy, and all stays.
func (s *space) unmount() {
	private, err := s.lockPrivate()
	if err != nil {
		s.notice(err.Error())
		return
	}
	defer unix.Close(private)
	// The first call with MNT_EXPIRE only marks the mount: EAGAIN says that it was not in use, EBUSY
	// that it is (umount2(2)). The roots are mounts of their own, so clients do not make it busy.
	if err = unix.Unmount(s.path, unix.MNT_EXPIRE|unix.UMOUNT_NOFOLLOW); err == unix.EAGAIN {
		s.unmountRoots()
		// A client may have made a queue since the queues were counted. No more can come now.
		if queues := s.countQueues(); queues > 0 {
			s.bindAll()
			s.leaveMounted(queues)
			return
		}
		if err = unix.Unmount(s.path, unix.UMOUNT_NOFOLLOW); err != nil {
			s.bindAll()
		}
	}
	if err != nil {
		s.notice("cannot unmount " + s.path + ": " + err.Error())
	}
}

// bindAll takes back unmountRoots, where the tmpfs has to stay.
func (s *space) bindAll() {
	for _, p := range s.places() {
		if err := s.bind(p); err != nil {
			s.notice("cannot bind " + p.path + ": " + err.Error())
		}
	}
}

// countQueues returns how many queues are in the roots.
func (s *space) countQueues() (n int) {
	for _, p := range s.places() {
		dir, _ := unix.Open(s.path+"/"+p.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		n += countQueues(dir)
		sys.CloseAll(&dir)
	}
	return n
}

// unmountRoots unmounts the roots from the paths where clients see them. What another file system
// shows at such a path stays.
func (s *space) unmountRoots() {
	for _, p := range s.places() {
		var st unix.Stat_t
		if unix.Lstat(p.path, &st) == nil && uint64(st.Dev) == s.dev {
			unix.Unmount(p.path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) // even while a process has it open
		}
	}
}

// Empty reports whether there is no queue, and nothing left of earlier ones. A process
// with one event to publish then needs no spool.
func Empty(o Options) bool {
	private := o.Private + "/" + spoolDir + "/"
	for _, path := range []string{o.Events, o.Libudev, private + heldDir, private + trashDir} {
		if path == "" {
			continue
		}
		if n, err := countEntries(path); n > 0 || err != nil && err != unix.ENOENT {
			return false
		}
	}
	return true
}
