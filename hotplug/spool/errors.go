package spool

import "errors"

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

// filterError is a condition that is none. It is ErrFilter.
type filterError string

func (e filterError) Error() string { return string(e) + ": " + ErrFilter.Error() }

// Unwrap has errors.Is find ErrFilter.
func (filterError) Unwrap() error { return ErrFilter }
