// Package spool hands every event to every client through the file system: each client
// owns a directory, its queue, in which each event is a file. The broker writes an event
// once and links it into every queue; a client waits for inotify's IN_CREATE, reads the
// file with the lowest name, and unlinks it. A queue is a plain directory on a tmpfs, so
// a shell can read it, and so can a container that has the spool bound into it.
//
// This package is what a client imports: Subscribe makes a queue and returns a Reader,
// NewReader opens one that exists, Queues lists them. It needs no rights and never
// publishes; that is the package broker.
//
// # Promises
//
// Once and in order: names are numbers from one counter, whichever process publishes
// (helpers, the loop, a scan, a loop that was started again). No queue has a number
// before all queues have the one below it. The order is that in which events were done.
//
// Complete or not at all: a file is complete, with mode 0444, before it has a name. A
// publisher that is killed at any moment leaves no partial file; the next one sends all
// queues an event (UEVENT_GAP) for the one that they may have missed.
//
// No loss without a report: a queue takes a limited number of unread files, its window.
// Events past it are kept, by one link an event however many queues lag, and delivered
// as the client reads. Past a limit the oldest are dropped. The queue gets one event
// with UEVENT_GAP=1 in their place, with the name of the last of them, and LOST, their
// number (where the queue has a filter, an upper bound).
//
// No leftovers: a queue is removed when its owner dies. The owner is the process that
// holds a flock on the directory, if only its user may open that (0700); else the one
// that made it; else the one whose number is in its name, if it belongs to the
// directory's user. A queue in which that user has put .sticky stays.
//
// No harm between users: the roots are world-writable, so the broker trusts nothing in
// them. It follows no link, enters no other file system, and opens nothing of a client's
// but its filter. A user may have a limited number of queues, and is denied more for a
// while if it makes far too many.
//
// # A queue
//
// A queue is a directory NAME-PID or NAME-PID-SLOT in the root. One whose name begins
// with a dot is being prepared, and gets no events until it is renamed. A client misses
// no event after it has made .NAME-PID (0700), taken an exclusive flock on it, written
// its dot files and renamed it to NAME-PID. It must wait for the lock: the broker tries a
// shared one now and then, for a moment.
//
// Event files have names of twenty digits; Append defines their content. The links head
// and tail, where the queue has them, point to the file to be read next and to the
// newest. The dot files belong to the client; the broker reads them once, when the name
// has lost its dot:
//
//	.filter   one condition a line, see ParseFilter
//	.nolinks  make no head and tail
//	.sticky   the queue outlives its owner
//	.ring     the client removes nothing: when it is full the older half of its events
//	          is removed, read or not, without a gap; it has no head and tail
//
// A condition is subsystem=NAME, subsystem=NAME/DEVTYPE, devpath=PREFIX (of whole parts
// of a path), tag=NAME, or KEY=VALUE for any value of any variable. Conditions with the
// same key are alternatives; of different keys, all must hold. Empty lines and lines that
// begin with # are ignored. Gaps pass every filter.
//
// A queue in libudev's root is as libudev-compat needs it: it has no links and no dot
// files, and its window is small enough for that library's socket.
package spool
