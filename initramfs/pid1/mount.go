package pid1

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// mounts are the file systems that mountAll mounts, and where.
const mounts = "proc:/proc sysfs:/sys devtmpfs:/dev tmpfs:/run"

// firstNodes are needed before the loop makes any node. They are missing only where /dev is an
// empty tmpfs. (In the function this table would be code, and larger.)
var firstNodes = [...]struct {
	path         string
	major, minor uint32
}{{"/dev/null", 1, 3}, {"/dev/console", 5, 1}, {"/dev/kmsg", 1, 11}}

// mountAll mounts what all programs expect, where it is not mounted yet.
func mountAll() error {
	for _, m := range strings.Fields(mounts) {
		kind, at, _ := strings.Cut(m, ":")
		_ = unix.Mkdir(at, 0o755)
		// Nodes are for /dev alone.
		flags, data := uintptr(unix.MS_NOSUID), ""
		if at != "/dev" {
			flags |= unix.MS_NODEV
		}
		if strings.HasSuffix(kind, "tmpfs") {
			data = "mode=0755"
		}
		err := unix.Mount(kind, at, kind, flags, data)
		if err == unix.ENODEV && at == "/dev" { // the loop makes the nodes
			err = unix.Mount("tmpfs", at, "tmpfs", flags, data)
		}
		// EBUSY: a program that has started this one mounted it already.
		if err != nil && err != unix.EBUSY {
			return sys.PathError("mount", at, err)
		}
	}
	// Errors of these are of no interest: most of them are there already.
	_ = unix.Mkdir("/run/lock", 0o755)
	_ = unix.Mkdir(newRoot, 0o755)
	_ = unix.Mkdir("/etc", 0o755)
	for _, n := range firstNodes {
		_ = unix.Mknod(n.path, unix.S_IFCHR|0o600, int(unix.Mkdev(n.major, n.minor)))
	}
	return nil
}

// openConsole opens the console for all that is said, where the kernel has not: it does not where the
// image has no /dev/console.
func openConsole() error {
	for fd := range 3 {
		if leadsSomewhere(fd) {
			continue
		}
		console, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return sys.PathError("open", "/dev/console", err)
		}
		// Without O_CLOEXEC: the loop, the tools and the next init inherit the standard descriptors.
		err = unix.Dup3(console, fd, 0)
		unix.Close(console)
		if err != nil {
			return err
		}
	}
	return nil
}

// leadsSomewhere reports whether a standard descriptor was open when this process began. Where one
// was closed it is a directory now, opened before the runtime began (see package handoff), or
// the runtime's /dev/null: so nothing that was opened since has its number.
func leadsSomewhere(fd int) bool {
	var st unix.Statx_t
	if sys.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false
	}
	return st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev_major != 1 || st.Rdev_minor != 3
}

// options are the mount options that are no text for the file system: mount(2) takes them as
// flags, and a file system would refuse the words. Each has the word that sets a flag and the one
// that takes it away, "" where there is none.
var options = [...]struct {
	set, clear string
	flag       uintptr
}{
	{"ro", "rw", unix.MS_RDONLY}, {"noatime", "atime", unix.MS_NOATIME}, {"nodiratime", "diratime", unix.MS_NODIRATIME},
	{"relatime", "norelatime", unix.MS_RELATIME}, {"strictatime", "nostrictatime", unix.MS_STRICTATIME},
	{"lazytime", "nolazytime", unix.MS_LAZYTIME}, {"nosuid", "suid", unix.MS_NOSUID}, {"nodev", "dev", unix.MS_NODEV},
	{"noexec", "exec", unix.MS_NOEXEC}, {"sync", "async", unix.MS_SYNCHRONOUS}, {"dirsync", "", unix.MS_DIRSYNC},
	{"silent", "loud", unix.MS_SILENT}, {"defaults", "", 0}, {"nofail", "", 0}, {"_netdev", "", 0},
}

// mountOptions parts the words of rootflags. Without rw there or on the command line the root is
// mounted read-only, as the kernel does it: the system's init checks it first, and then remounts it.
func (s *settings) mountOptions() (flags uintptr, data string) {
	if !s.writable {
		flags = unix.MS_RDONLY
	}
words:
	for rest := s.flags; rest != ""; {
		var word string
		word, rest, _ = strings.Cut(rest, ",")
		for i := range options {
			switch o := &options[i]; word {
			case "":
				continue words
			case o.set:
				flags |= o.flag
				continue words
			case o.clear:
				flags &^= o.flag
				continue words
			}
		}
		// What begins so is for programs that read fstab (mount(8)). What is no flag is for the file
		// system itself, such as subvol= of btrfs.
		if !strings.HasPrefix(word, "x-") {
			data += "," + word
		}
	}
	return flags, strings.TrimPrefix(data, ",")
}

// mount mounts the root, by the type that rootfstype= says, else by what the disk says it is, else
// by each type for disks that the kernel knows.
func (b *boot) mount() error {
	// Programs of the system compare what is mounted with names of nodes, as mount(8) has them.
	if node, err := sys.Realpath(b.node); err == nil {
		b.node = node
	}
	kinds := strings.ReplaceAll(b.fstype, ",", " ")
	switch {
	case kinds != "":
	case isFlash(b.node): // a node's path begins with a slash
		if kinds = "jffs2"; b.node[0] == 'u' {
			kinds = "ubifs"
		}
	default:
		kinds = kindOf(b.node)
	}
	if kinds == "" {
		// As the kernel does for a root without rootfstype= (init/do_mounts.c).
		text, _ := sys.ReadAttribute("/proc/filesystems")
		for line := range strings.Lines(text) {
			// "nodev" marks the types that lie on no disk.
			if !strings.HasPrefix(line, "nodev") {
				kinds += line
			}
		}
	}
	flags, data := b.mountOptions()
	var err error
	for _, kind := range strings.Fields(kinds) {
		failed := unix.Mount(b.node, newRoot, kind, flags, data)
		// EACCES: the disk is write-protected. EROFS: the file system can only be read.
		// A further try with MS_RDONLY is also what the kernel makes for its root (init/do_mounts.c).
		if failed == unix.EACCES || failed == unix.EROFS {
			failed = unix.Mount(b.node, newRoot, kind, flags|unix.MS_RDONLY, data)
		}
		if failed == nil || failed == unix.EBUSY { // it is mounted by a person, in the shell
			return nil
		}
		// Of several types one that the kernel does not know says the least.
		if err == nil || err == unix.ENODEV {
			err = failed
		}
	}
	// The most useful of the messages: an image often lacks the module of the root's file system.
	if err == unix.ENODEV {
		return errors.New("root=" + b.root + " has a file system of type " + strings.TrimSpace(kinds) +
			", which this kernel does not know: add its module to the image; " + b.seen())
	}
	if kinds == "" {
		return errors.New("root=" + b.root + " (" + b.node + ") holds no file system that is known here; rootfstype= may name it")
	}
	kinds = strings.Join(strings.Fields(kinds), " ")
	return errors.New("root=" + b.root + " (" + b.node + ") cannot be mounted, tried as " + strings.ReplaceAll(kinds, " ", ", ") + ": " + err.Error() + kernelSays(b.node, kinds))
}

// kernelSays returns the last line of the kernel's log in which a file system, of one of these types, speaks
// of the disk or for itself: why it cannot be mounted. The console has it only where the level of
// its messages is high.
func kernelSays(node, kinds string) (said string) {
	log := make([]byte, 16<<10) // of a longer log its end
	n, _ := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, log)
	for line := range strings.Lines(string(log[:max(n, 0)])) {
		// "<3>[    1.234567] EXT4-fs (sda1): ..."; of a word in rootflags= "ext4: ...". Not all kernels add the time.
		text := line[strings.IndexByte(line, '>')+1:]
		if strings.HasPrefix(text, "[") {
			_, text, _ = strings.Cut(text, "] ")
		}
		speaker, _, is := strings.Cut(text, ": ")
		if is && (strings.HasSuffix(speaker, strings.TrimPrefix(node, "/dev/")+")") || strings.Contains(" "+kinds+" ", " "+speaker+" ")) {
			said = "; the kernel says: " + strings.TrimSuffix(text, "\n")
		}
	}
	return said
}
