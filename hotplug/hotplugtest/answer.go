package hotplugtest

import (
	"testing"
	"time"

	"devspool/hotplug/sys"
)

// Answer is what a request led to.
type Answer struct {
	Lines []string
	Err   error
}

// Still fails the test where a request has an answer.
func Still(t *testing.T, what string, answers <-chan Answer) {
	t.Helper()
	select {
	case a := <-answers:
		t.Errorf("%s: there is an answer: %q, %v", what, a.Lines, a.Err)
	case <-time.After(20 * sys.PollInterval):
	}
}

// Ends fails the test where a request does not end well.
func Ends(t *testing.T, what string, answers <-chan Answer) {
	t.Helper()
	Within(t, what, func() {
		if a := <-answers; a.Err != nil {
			t.Errorf("%s: %q, %v", what, a.Lines, a.Err)
		}
	})
}
