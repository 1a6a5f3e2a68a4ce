package hotplug

import (
	"strconv"
	"time"
)

// moment is a point in time, counted from the start of the program. A time.Time
// in a struct would bring the calendar into the binary, 40 kB.
type moment time.Duration

var beginning = time.Now()

func now() moment { return moment(time.Since(beginning)) }

// age returns how long ago m was.
func (m moment) age() time.Duration { return time.Duration(now() - m) }

// ago returns the age of m in seconds, for a person.
func (m moment) ago() string {
	tenths := m.age().Milliseconds() / 100
	return strconv.FormatInt(tenths/10, 10) + "." + strconv.FormatInt(tenths%10, 10) + " s"
}

// after returns a channel that is closed when d is over. (One of the package time
// carries a time.Time.)
func after(d time.Duration) <-chan struct{} {
	over := make(chan struct{})
	time.AfterFunc(d, func() { close(over) })
	return over
}
