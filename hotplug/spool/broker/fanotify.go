package broker

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/procfs"
	"devspool/hotplug/sys"
)

// watchMakers has the kernel tell who makes directories in a root: fanotify gives
// a descriptor of the process itself, across namespaces and without regard to
// numbers that are used again. It returns none where the kernel is too old (5.15).
func watchMakers(root int) int {
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

// The records that follow an event, and the sizes of their fixed parts.
const (
	infoName  = 2 // FAN_EVENT_INFO_TYPE_DFID_NAME
	infoPidfd = 4 // FAN_EVENT_INFO_TYPE_PIDFD

	infoHeader   = 4
	nameHeader   = infoHeader + 8 // the file system's id
	handleHeader = 8
)

// readMakers calls made for each directory that was made since the last call, for so
// many of them at most, and reports how many there were; fewer is all. The process's
// descriptor is made's to close, or none where the maker is dead already.
func readMakers(fanotify, most int, made func(name string, pid, pidfd int)) (count int) {
	const size = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))
	var aligned [512]uint64
	buf := (*[len(aligned) * 8]byte)(unsafe.Pointer(&aligned))[:]
	for count < most {
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
			name, pidfd := makerInfo(rest[e.Metadata_len:length])
			made(name, int(e.Pid), pidfd)
			count++
			rest = rest[length:]
		}
	}
	return count
}

// makerInfo reads the records behind an event.
func makerInfo(info []byte) (name string, pidfd int) {
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
				handle := int(*(*uint32)(unsafe.Pointer(&record[nameHeader])))
				if at := nameHeader + handleHeader + handle; at >= 0 && at <= len(record) {
					name = unix.ByteSliceToString(record[at:])
				}
			}
		case infoPidfd:
			if len(record) >= infoHeader+4 {
				if pidfd = int(*(*int32)(unsafe.Pointer(&record[infoHeader]))); pidfd < 0 {
					pidfd = sys.None
				}
			}
		}
		info = info[length:]
	}
	return name, pidfd
}

// makerOf returns who made the directory of q, if the kernel said so.
func (s *Broker) makerOf(q *queue) follower {
	s.hearMakers()
	f := follower{Process: q.root.made[q.name], fd: sys.None}
	delete(q.root.made, q.name)
	return f
}

// makersAtOnce is how many makers are heard in one turn. More are made in a flood,
// and to hear of one takes longer than to make a directory.
const makersAtOnce = 512

// hearMakers takes what the kernel says of makers. Who is told of here only after
// the directory was looked at is made its owner all the same.
func (s *Broker) hearMakers() {
	for _, r := range s.roots {
		if r.makers == sys.None {
			continue
		}
		var known makers
		s.unheard -= readMakers(r.makers, s.unheard, func(name string, pid, pidfd int) {
			if pidfd == sys.None {
				return
			}
			if p, alive := known.find(pid, pidfd); alive {
				s.hearMaker(r, name, p)
			}
		})
		known.close()
	}
	s.again = s.again || s.unheard <= 0
}

// makers are some that the kernel told of: many directories come from few.
type makers [4]follower

// find returns the process of a pidfd, which it takes over, and whether it lives.
// Who was told of before with the same number, and lives, is the same.
func (m *makers) find(pid, pidfd int) (procfs.Process, bool) {
	f := &m[pid%len(m)]
	if f.Pid == pid && f.alive() {
		sys.Close(pidfd)
		return f.Process, true
	}
	m.forget(f)
	p, _ := procfs.Find(pid)
	*f = follower{p, pidfd}
	return p, f.alive() // so what was found is of the same process
}

func (m *makers) forget(f *follower) {
	if f.Pid != 0 {
		sys.Close(f.fd)
	}
}

func (m *makers) close() {
	for i := range m {
		m.forget(&m[i])
	}
}

func (s *Broker) hearMaker(r *root, name string, p procfs.Process) {
	q := r.names[name]
	if q == nil || !q.owner.known || q.owner.locker || q.owner.maker.Pid != 0 {
		r.made[name] = p
		return
	}
	q.owner.maker, q.owner.since = follower{p, sys.None}, 0
	s.writeState(q)
	s.follow(q)
}

// forgetMakers forgets who made directories that are gone already: those that were
// told of before the names in the roots were looked at.
func (s *Broker) forgetMakers() {
	for _, r := range s.roots {
		for name := range r.made {
			if r.names[name] == nil {
				delete(r.made, name)
			}
		}
	}
}
