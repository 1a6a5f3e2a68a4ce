// Package sink delivers events at their end: to the queues of clients (Spool), to netlink
// groups (Netlink), to a descriptor (Pipe) and to a person (Table).
//
// It never blocks the scheduler, never calls it, and never decides about an event.
package sink
