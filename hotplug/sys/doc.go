// Package sys holds the system calls that several packages need: one call, or one
// small sequence of calls, a function. It knows no device, keeps no state, and decides
// nothing. Errors are bare errnos, or an os.PathError where a function takes a path.
//
// The calls that every event makes are made by RawSyscall: they work on memory and never
// block, so Go's scheduler need not hear of them. Telling it would cost a good part of
// what they do.
package sys
