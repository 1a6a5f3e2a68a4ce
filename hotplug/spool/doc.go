// Package spool hands every event to every client through the file system: each
// client owns a directory, its queue, in which an event is a file. The event is
// written once and linked into every queue; the client waits for inotify's
// IN_CREATE, reads the file with the lowest name, and unlinks it. A queue is plain
// directories and links on a tmpfs, so a shell can read one, and a container that
// has the spool bound into it.
//
// # What is promised
//
// Once and in order: names are numbers of twenty digits from one counter, whoever
// publishes (helpers, the loop, a scan, a loop that was started again), and a
// number is seen in no queue before the one below it is in all of them. Order is
// that in which events were done.
//
// Whole or not at all: a file is complete, 0444, before it has a name. A publisher
// that is killed at any moment leaves nothing half made; the next one tells all
// queues of the event that may not have reached them (UEVENT_GAP).
//
// Nothing is lost quietly: a queue takes so many unread files, its window. What is
// past it is held back, one link an event however many queues wait for it, and fed
// as the client reads. Past a cap the oldest are dropped, and the queue gets in
// their place one event with UEVENT_GAP=1 and LOST, how many there were (of a queue
// with a filter: at most), named as the last of them.
//
// Nothing is left behind: a queue goes when its owner dies. That is who holds a
// flock on the directory, where nobody else may open that (0700); else the process
// that made it; else the one whose number is in its name, if it is of the directory's
// user. One in which that user has put .sticky stays.
//
// Nobody harms another: the roots are world-writable, so nothing in them is taken
// for what it seems. No link is followed, no file system crossed, nothing of a
// client's is opened but its filter; a user has so many queues, and is kept out for
// a while if it makes very many more.
//
// # The two sides
//
// The publishing side is Spool: publish.go and file.go say how an event gets out,
// list.go which queues there are, deny.go who may make none for a while, owner.go
// whose they are, held.go what is kept back, links.go what a shell reads by, tend.go
// what is done between events. The reading side is client.go. Both keep to this:
//
// A queue is a directory NAME-PID or NAME-PID-SLOT below the root. One whose name
// begins with a dot is being prepared: nothing is put into it until it is renamed.
// A client that makes .NAME-PID (0700), takes an exclusive flock on it, writes its dot
// files and renames it to NAME-PID misses no event from then on. The lock is to be
// waited for: the publisher tries a shared one now and then, for a moment.
//
// Event files have names of twenty digits; their content is that of Append. head
// and tail, where the queue has them, are symbolic links to the file to be read
// next and to the newest. The dot files are the client's, read once, when the queue
// is first seen without its leading dot:
//
//	.filter   one condition a line, see ParseFilter
//	.nolinks  no head and tail, please
//	.sticky   the queue outlives its owner
//
// A condition is subsystem=NAME, subsystem=NAME/DEVTYPE, devpath=PREFIX (of whole
// parts of a path), tag=NAME, or KEY=VALUE for any value of any variable. Those of
// the same key are alternatives; of different keys, all have to hold. Empty lines
// and lines that begin with # say nothing. Gaps pass every filter.
//
// A queue below libudev's root is as libudev-compat wants it: it has no links and
// no dot files, and a window small enough for that library's socket.
package spool
