package spool

import "errors"

// Error says what could not be done, and why: Err is an error of a system call, or one
// of this package.
type Error struct {
	What string
	Err  error
}

func (e *Error) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// The errors of this package.
var (
	// ErrEmpty is returned where a queue holds no unread event.
	ErrEmpty = errors.New("no unread event")

	// ErrFilter is returned for a line of a filter that is not a condition.
	ErrFilter = errors.New("not a condition: write subsystem=NAME[/DEVTYPE], devpath=PREFIX, tag=NAME or KEY=VALUE")

	// ErrMalformed is returned for text that is not an event.
	ErrMalformed = errors.New("not an event: the first line must be ACTION@DEVPATH, the others KEY=VALUE")
)

// errInotifyLimit is returned where the user has as many instances of inotify as the
// kernel allows, or this process as many descriptors.
var errInotifyLimit = errors.New("too many open files, or more clients of this user than fs.inotify.max_user_instances")
