// Package sys holds the system calls that several packages need: one call, or one small
// sequence of calls, a function. It knows no device, keeps no state, and decides nothing.
// Errors are bare errnos, or an os.PathError where a function takes a path and says so.
//
// The calls that every event makes are raw system calls (unix.RawSyscall): they work on files
// in memory (tmpfs, sysfs) and never wait, so Go's scheduler need not know of them. To tell it
// costs a good part of what such a call does, and after a time of rest a hundred times that.
package sys

// NotComparable, as the type of a first field _, keeps the compiler from making a function that
// compares values of the struct: 100 to 400 bytes and their entry in the function table.
type NotComparable [0]func()
