// Package broker is the publishing side of a spool: it writes an event once and links
// it into the queue of every client, keeps what slow clients have no room for, and
// removes the queues of dead ones. The package spool says what is promised and how a
// queue looks. It never makes a queue, opens nothing of a client's but its filter, and
// knows nothing of devices.
//
// A [Broker] is made of parts, each with fields of its own. The arrows between them run
// downward:
//
//	Broker      the one mutex, the lock between processes, what is done when
//	delivery    an event into the queues; what is kept into a queue that has room again
//	registry    which queues there are; quota, the limits of a user
//	lifecycle   a queue from its first sight to its removal, and who owns it
//	links       head and tail of a queue
//	backlog     events that are kept for slow queues; windows, the room in a queue
//	eventFiles  an event as a file; records, what is kept of a queue; trash, removal
//	upkeep      the goroutine between events and what it waits for
//	space       directories, mounts and locks; counter, the numbers of events
//
// Only Broker has a mutex. It guards the fields of all parts, and their methods expect
// it held. What several processes share (the directories, the counter, the records) is
// guarded by the lock file, which is taken after the mutex.
package broker
