package sys

import (
	"strconv"
	"time"
)

// Time is a point in time: nanoseconds since the program began, by the monotonic clock. A
// time.Time in a struct would bring the calendar into the binary, 40 kB. Where a struct holds one,
// 0 stands for what has not happened.
type Time time.Duration

// beginning is the origin of each Time. It holds a reading of the monotonic clock, by which time.Since
// goes, so a step of the wall clock changes no Time.
var beginning = time.Now()

// Now returns the present.
func Now() Time { return Time(time.Since(beginning)) }

// Age returns how long ago t was.
func (t Time) Age() time.Duration { return time.Duration(Now() - t) }

// Ago returns the age of t as text: seconds, and tenths of them.
func (t Time) Ago() string {
	tenths := t.Age().Milliseconds() / 100
	return strconv.FormatInt(tenths/10, 10) + "." + strconv.FormatInt(tenths%10, 10) + " s"
}

// After returns a channel that is closed after d. The channel of time.After carries a
// time.Time; see Time.
func After(d time.Duration) <-chan struct{} {
	over := make(chan struct{})
	time.AfterFunc(d, func() { close(over) })
	return over
}

// PollInterval is how often to look for conditions that send no notification.
const PollInterval = 5 * time.Millisecond
