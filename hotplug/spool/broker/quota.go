package broker

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// quota limits the entries that a user may have in the roots, so that none can fill the
// memory or delay the events of others.
//
// A user can make directories faster than they can be removed. So one that makes far too
// many is denied for a while: an access control list on the roots takes away its right
// to write there, and the kernel refuses the rest. Where tmpfs has no such lists events
// are delivered all the same, but the excess stays for longer.
type quota struct {
	perUser int     // Options.PerUser
	noACL   bool    // make no access control lists, for tests
	roots   []*root // the registry's
	notice  func(text string)

	entries map[uint32]int   // how many queues each user has
	denied  map[uint32]int64 // until when a user is denied, by now; no entry where it is not

	removals int // how many excess entries may still be removed in this round
	refused  int // how many were removed since Open
}

// Users who exceed the limit by denyExcess at once are denied for denyTime nanoseconds.
// A user that makes one too many again and again does no harm.
const (
	denyExcess = 64
	denyTime   = 1e9
)

// isFull reports whether a user may have no more queues. Root is not limited: what root
// makes is wanted.
func (qu *quota) isFull(uid uint32) bool {
	return uid != 0 && (qu.entries[uid] >= qu.perUser || qu.denied[uid] != 0)
}

// throttle denies a user who has just made far too many entries, before any of them is
// looked at closely: that takes time, in which the user would make more.
func (qu *quota) throttle(pending []change, queues map[uint64]*queue) {
	limit := qu.perUser + denyExcess
	// No user is above perUser before, so fewer names take none past the limit.
	if len(pending) < denyExcess {
		return
	}
	made := map[uint32]int{}
	// Each name costs a system call, and the user goes on making more meanwhile.
	for _, c := range pending[:min(len(pending), 8*limit)] {
		var st unix.Stat_t
		err := unix.Fstatat(c.root.fd, c.name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil || st.Uid == 0 || qu.denied[st.Uid] != 0 || queues[st.Ino] != nil {
			continue
		}
		made[st.Uid]++
		if qu.entries[st.Uid]+made[st.Uid] == limit {
			qu.denied[st.Uid] = now() + denyTime
			qu.writeDenied()
			return
		}
	}
}

// unthrottle ends the denial of users whose time is over.
func (qu *quota) unthrottle() {
	t := now()
	for uid, until := range qu.denied {
		if until <= t {
			delete(qu.denied, uid)
			qu.writeDenied()
		}
	}
}

// An access control list in an extended attribute is a version, then entries of a tag,
// permissions, and a user where the tag is about one (linux/posix_acl_xattr.h). An entry is
// written as one little-endian number: the tag in bits 0 to 15, the permissions in 16 to 31,
// the user in 32 to 63.
const (
	aclName    = "system.posix_acl_access"
	aclVersion = 2

	aclOwner = 0x01
	aclUser  = 0x02
	aclGroup = 0x04
	aclMask  = 0x10
	aclOther = 0x20

	aclAll     = 7 << 16
	aclNoWrite = 5 << 16
	aclNoUser  = math.MaxUint32 << 32
)

// writeDenied writes the denied users into the access control lists of the roots. A list
// without user entries equals the mode, so it needs no removal.
func (qu *quota) writeDenied() {
	if qu.noACL {
		return
	}
	order := binary.LittleEndian
	// The kernel takes entries in this order only, and wants a mask where there are users.
	list := order.AppendUint32(nil, aclVersion)
	list = order.AppendUint64(list, aclOwner|aclAll|aclNoUser)
	for uid := range qu.denied {
		list = order.AppendUint64(list, aclUser|aclNoWrite|uint64(uid)<<32)
	}
	list = order.AppendUint64(list, aclGroup|aclAll|aclNoUser)
	if len(qu.denied) > 0 {
		list = order.AppendUint64(list, aclMask|aclAll|aclNoUser)
	}
	list = order.AppendUint64(list, aclOther|aclAll|aclNoUser)
	for _, root := range qu.roots {
		err := unix.Fsetxattr(root.fd, aclName, list, 0)
		if err != nil && err != unix.EOPNOTSUPP {
			qu.notice("cannot set the access control list of " + root.path + ": " + err.Error())
		}
	}
}

// refuse removes an entry of a root that is no queue, or too many.
func (r *registry) refuse(root *root, name string, st *unix.Stat_t, why string) {
	r.notice("removed " + why)
	if r.quota.removals--; r.quota.removals < 0 {
		root.excess, r.upkeep.retry = true, true
		return
	}
	r.quota.refused++
	// rmdir first: nearly all that a flood makes is empty, and then the trash need not be read.
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		unix.Unlinkat(root.fd, name, 0)
	case unix.Unlinkat(root.fd, name, unix.AT_REMOVEDIR) != nil:
		r.trash.add(root.fd, name)
	}
}

// removalsPerRound is how many refused entries a round of the upkeep removes, while
// publishers wait. Publishing an event removes none.
const removalsPerRound = 256

// removeExcess removes more of the entries that were refused. Their names are not kept:
// a user that makes many would fill the memory. So it reads the roots, a part at a time.
func (r *registry) removeExcess() {
	for _, root := range r.roots {
		// A scan that uses up the removals of this round goes on in the next, from where fd stands.
		for r.quota.removals > 0 && (root.excess || root.scanning) {
			if !root.scanning {
				unix.Seek(root.fd, 0, 0)
				root.excess, root.scanning = false, true
			}
			names := sys.ListSome(root.fd, r.space.buffer[:])
			root.scanning = len(names) > 0
			r.listed = false // some may be within the limit by now
			for _, name := range names {
				if root.names[name] == nil {
					r.visit(root, name)
				}
			}
		}
	}
}
