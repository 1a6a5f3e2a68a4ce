package spool

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// watchMakers has the kernel tell who makes directories in a root: fanotify gives
// a descriptor of the process itself, across namespaces and without regard to
// numbers that are used again. It returns none where the kernel is too old (5.15).
func watchMakers(root int) int {
	const init = unix.FAN_CLASS_NOTIF | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK | unix.FAN_REPORT_DFID_NAME | unix.FAN_REPORT_PIDFD
	fd, err := unix.FanotifyInit(init, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return none
	}
	if unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_ONLYDIR, unix.FAN_CREATE|unix.FAN_ONDIR, root, "") != nil {
		unix.Close(fd)
		return none
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

// readMakers calls made for each directory that was made since the last call. The
// process's descriptor is made's to close, or none where the maker is dead already.
func readMakers(fanotify int, made func(name string, pid, pidfd int)) {
	const size = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))
	var aligned [512]uint64
	buf := (*[len(aligned) * 8]byte)(unsafe.Pointer(&aligned))[:]
	for {
		n, err := unix.Read(fanotify, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n < size {
			return
		}
		for rest := buf[:n]; len(rest) >= size; {
			e := (*unix.FanotifyEventMetadata)(unsafe.Pointer(&rest[0]))
			length := int(e.Event_len)
			if length < size || length > len(rest) {
				return
			}
			name, pidfd := makerInfo(rest[e.Metadata_len:length])
			made(name, int(e.Pid), pidfd)
			rest = rest[length:]
		}
	}
}

// makerInfo reads the records behind an event.
func makerInfo(info []byte) (name string, pidfd int) {
	pidfd = none
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
					pidfd = none
				}
			}
		}
		info = info[length:]
	}
	return name, pidfd
}

// makerOf returns who made the directory of q, if the kernel said so.
func (s *Spool) makerOf(q *queue) follower {
	s.hearMakers()
	f := follower{process: q.root.made[q.name], fd: none}
	delete(q.root.made, q.name)
	return f
}

// hearMakers takes what the kernel says of makers. Who is told of here only after
// the directory was looked at is made its owner all the same.
func (s *Spool) hearMakers() {
	for _, r := range s.roots {
		if r.makers == none {
			continue
		}
		var p process // many come from the same
		readMakers(r.makers, func(name string, pid, pidfd int) {
			if pidfd == none {
				return
			}
			defer unix.Close(pidfd)
			if p.pid != pid {
				p, _ = findProcess(pid)
			}
			// It lives still, so what was found is of the same process.
			if f := (follower{p, pidfd}); f.alive() {
				s.hearMaker(r, name, p)
			}
		})
	}
}

func (s *Spool) hearMaker(r *root, name string, p process) {
	q := r.names[name]
	if q == nil || !q.owner.known || q.owner.locker || q.owner.maker.pid != 0 {
		r.made[name] = p
		return
	}
	q.owner.maker, q.owner.since = follower{p, none}, 0
	s.writeState(q)
	s.follow(q)
}

// forgetMakers forgets who made directories that are gone already.
func (s *Spool) forgetMakers() {
	for _, r := range s.roots {
		for name := range r.made {
			if r.names[name] == nil {
				delete(r.made, name)
			}
		}
	}
}
