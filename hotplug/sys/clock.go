package sys

import (
	"strconv"
	"time"
)

// Time is a point in time, counted from the start of the program. A time.Time
// in a struct would bring the calendar into the binary, 40 kB.
type Time time.Duration

var Beginning = time.Now()

func Now() Time { return Time(time.Since(Beginning)) }

// Age returns how long ago m was.
func (m Time) Age() time.Duration { return time.Duration(Now() - m) }

// Ago returns the age of m in seconds, for a person.
func (m Time) Ago() string {
	tenths := m.Age().Milliseconds() / 100
	return strconv.FormatInt(tenths/10, 10) + "." + strconv.FormatInt(tenths%10, 10) + " s"
}

// After returns a channel that is closed when d is over. (One of the package time
// carries a time.Time.)
func After(d time.Duration) <-chan struct{} {
	over := make(chan struct{})
	time.AfterFunc(d, func() { close(over) })
	return over
}

// PollInterval is how often is looked for what nothing tells of.
const PollInterval = 5 * time.Millisecond
