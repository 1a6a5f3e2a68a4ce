package broker

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/procfs"
	"devspool/hotplug/sys"
)

// This file finds out which process made a directory in a root. fanotify gives a
// descriptor of the process itself, in any namespace, so that a number which is used
// again does no harm. Kernels before 5.15 do not have that: there nothing is found.

// creatorsPerRound is how many events are read in one round. A flood makes more: to read
// an event takes longer than to make a directory.
const creatorsPerRound = 512

// watchCreators makes the kernel report the processes that make directories in a root.
// It returns none where the kernel is too old, or refuses it to this process.
func watchCreators(root int) int {
	const init = unix.FAN_CLASS_NOTIF | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK | unix.FAN_REPORT_DFID_NAME | unix.FAN_REPORT_PIDFD
	fd, err := unix.FanotifyInit(init, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return sys.None
	}
	if unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_ONLYDIR, unix.FAN_CREATE|unix.FAN_ONDIR, root, "") != nil {
		unix.Close(fd)
		return sys.None
	}
	return fd
}

// creatorOf returns the process that made the directory of q, if the kernel told, and forgets it: the
// queue keeps it from then on.
func (l *lifecycle) creatorOf(q *queue) processRef {
	l.readRoot(q.root)
	p := processRef{Process: q.root.creators[q.name], fd: sys.None}
	delete(q.root.creators, q.name)
	return p
}

// readCreators reads what the kernel tells of creators. A creator that is reported after its
// directory was visited still becomes the owner. Before that it forgets the creators of
// directories that are gone already: those that were reported before the names in the
// roots were visited.
func (l *lifecycle) readCreators(roots []*root) {
	for _, r := range roots {
		for name := range r.creators {
			if r.names[name] == nil {
				delete(r.creators, name)
			}
		}
		l.readRoot(r)
	}
}

// readRoot reads what the kernel tells of one root, as far as the budget goes.
func (l *lifecycle) readRoot(r *root) {
	if r.fanotify == sys.None {
		return
	}
	var seen creatorCache
	l.creatorBudget -= readFanotify(r.fanotify, l.creatorBudget, func(name string, pid, pidfd int) {
		if pidfd == sys.None {
			return // it is dead already
		}
		if p, alive := seen.find(pid, pidfd); alive {
			l.noteCreator(r, name, p)
		}
	})
	seen.close()
	l.upkeep.retry = l.upkeep.retry || l.creatorBudget <= 0
}

// noteCreator makes p the owner of the queue name, or keeps it for when that is visited.
func (l *lifecycle) noteCreator(r *root, name string, p procfs.Process) {
	q := r.names[name]
	if q == nil || q.owner.kind != ownerCreator || q.owner.creator.Pid != 0 {
		r.creators[name] = p
		return
	}
	q.owner.creator, q.owner.ownerless = processRef{p, sys.None}, 0
	l.records.write(q)
	l.upkeep.follow(q)
}

// creatorCache holds some processes that were reported, since few make many directories.
type creatorCache [4]processRef

// find returns the process of a pidfd, which it takes over, and whether it lives. A
// cached process with the same pid that is still alive is the same process.
func (c *creatorCache) find(pid, pidfd int) (procfs.Process, bool) {
	slot := &c[pid%len(c)]
	if slot.Pid == pid && slot.isAlive() {
		sys.Close(pidfd)
		return slot.Process, true
	}
	if slot.Pid != 0 {
		sys.Close(slot.fd)
	}
	p, _ := procfs.Find(pid)
	*slot = processRef{p, pidfd}
	return p, slot.isAlive() // if so, Find found the same process
}

// close closes the pidfds of the cached processes. An owner gets one of its own, by follow.
func (c *creatorCache) close() {
	for i := range c {
		if c[i].Pid != 0 {
			sys.Close(c[i].fd)
		}
	}
}

// The types of the records that follow a fanotify event, and the sizes of their parts
// (linux/fanotify.h).
const (
	infoName  = 2 // FAN_EVENT_INFO_TYPE_DFID_NAME
	infoPidfd = 4 // FAN_EVENT_INFO_TYPE_PIDFD

	infoHeader   = 4
	nameHeader   = infoHeader + 8 // the file system's id
	handleHeader = 8
)

// readFanotify calls made for each directory that was made since the last call, at most
// limit times, and returns how often. made must close pidfd, which is none where the
// creator is dead already.
func readFanotify(fanotify, limit int, made func(name string, pid, pidfd int)) (count int) {
	const size = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))
	var aligned [512]uint64 // as the kernel's structures are
	buf := (*[len(aligned) * 8]byte)(unsafe.Pointer(&aligned))[:]
	for count < limit {
		n, err := unix.Read(fanotify, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n < size {
			break
		}
		for rest := buf[:n]; len(rest) >= size; {
			e := (*unix.FanotifyEventMetadata)(unsafe.Pointer(&rest[0]))
			length := int(e.Event_len)
			if length < size || length > len(rest) {
				return count
			}
			name, pidfd := readInfo(rest[e.Metadata_len:length])
			made(name, int(e.Pid), pidfd)
			count++
			rest = rest[length:]
		}
	}
	return count
}

// readInfo reads the records that follow an event, each a byte for its type, a spare one, and
// its length in 16 bits, which counts these too. A length that cannot be ends it.
func readInfo(info []byte) (name string, pidfd int) {
	pidfd = sys.None
	for len(info) >= infoHeader {
		length := int(*(*uint16)(unsafe.Pointer(&info[2])))
		if length < infoHeader || length > len(info) {
			break
		}
		record := info[:length]
		switch info[0] {
		case infoName:
			if len(record) >= nameHeader+handleHeader {
				// A struct file_handle: how many bytes it has, its type, and these bytes. The
				// name follows, ended by NUL.
				handle := int(*(*uint32)(unsafe.Pointer(&record[nameHeader])))
				if at := nameHeader + handleHeader + handle; at >= 0 && at <= len(record) {
					name = unix.ByteSliceToString(record[at:])
				}
			}
		case infoPidfd:
			if len(record) >= infoHeader+4 {
				// FAN_NOPIDFD for a process that is dead, FAN_EPIDFD where no descriptor could
				// be made.
				if pidfd = int(*(*int32)(unsafe.Pointer(&record[infoHeader]))); pidfd < 0 {
					pidfd = sys.None
				}
			}
		}
		info = info[length:]
	}
	return name, pidfd
}
