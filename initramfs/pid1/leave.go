package pid1

import (
	"errors"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// inits are where an init may lie, in the order in which the kernel tries them (kernel_init in
// init/main.c).
var inits = [...]string{"/sbin/init", "/etc/init", "/bin/init", "/bin/sh"}

// leave makes the mounted file system the root, and its init this process. It returns only where
// that fails. The init is looked for first: as long as nothing was moved, a person in the
// initramfs's shell can still mend what is wrong.
func (b *boot) leave() error {
	// By a descriptor, since the path /sysroot cannot be used once the loop has moved the mounts.
	root, err := unix.Open(newRoot, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer sys.Close(root) // or a person in the shell could not unmount it
	// Once the new root is in its place, the old one is reached by this descriptor alone.
	old, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer sys.Close(old)
	init := ""
	if sys.EnterRoot(root) == nil { // its links lead from its own root on
		init = b.findInit()
		if err = sys.EnterRoot(old); err != nil {
			return err
		}
	}
	if init == "" && b.init != "" {
		return errors.New("the root file system has no init=" + b.init + " that can be run")
	}
	if init == "" {
		return errors.New("the root file system has no init that can be run; looked for " + inits[0] + " and others; init= may name one")
	}
	// The loop moves the mounts, /dev and the new root among them, while it does no event: this
	// process would not know when none is under way.
	if err = b.ask([]string{"switch-root", newRoot}, b.tell); err != nil {
		return err
	}
	if err = sys.EnterRoot(root); err != nil {
		return err
	}
	b.tell("switched root, starting " + init)
	// From here on there is no way back: the initramfs and its shell go.
	clean(old)
	// The other arguments stay: they are what the kernel's command line has for an init.
	b.args[0] = init
	// The process number stays 1, which the init relies on.
	err = unix.Exec(init, b.args, b.environ)
	why := err.Error()
	if err == unix.ENOENT { // the init itself is there
		why = "its interpreter or loader is not on the root file system"
	}
	return errors.New("cannot start " + init + ": " + why)
}

// findInit returns the path of the init in what is the root now, or "". Where init= names one no
// other will do, as for the kernel.
func (b *boot) findInit() string {
	if b.init != "" {
		if sys.Executable(b.init) {
			return b.init
		}
		return ""
	}
	for _, path := range inits {
		if sys.Executable(path) {
			return path
		}
	}
	return ""
}

// clean gives the memory of the initramfs back: it removes all that lies in the directory,
// if that is in memory, and nothing on any other file system.
func clean(dir int) {
	var st unix.Statx_t
	// On any other file system this would delete an installed system.
	if !sys.IsInMemory(dir) || sys.Fstat(dir, &st) != nil {
		return
	}
	cleanDir(dir, sys.FileIDOfStat(&st))
}

// cleanDir removes what lies in dir on the file system own. What has another device number is
// mounted there, and must be left alone with all below it.
func cleanDir(dir int, own sys.FileID) {
	for _, name := range sys.List(dir) {
		var st unix.Statx_t
		if sys.Stat(dir, name, unix.AT_SYMLINK_NOFOLLOW, &st) != nil || st.Dev_major != own.Major || st.Dev_minor != own.Minor {
			continue
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			_ = sys.Unlinkat(dir, name)
			continue
		}
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			cleanDir(fd, own)
			unix.Close(fd)
		}
		// It fails where something below was left alone, which then keeps its path.
		_ = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
}
