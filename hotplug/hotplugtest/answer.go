package hotplugtest

import (
	"testing"
	"time"

	"devspool/hotplug/sys"
)

// Answer is the answer to a request to the control socket.
type Answer struct {
	Lines []string
	Err   error
}

// Still fails the test where a request has got its answer, or gets it soon. What names the
// request.
func Still(t *testing.T, what string, answers <-chan Answer) {
	t.Helper()
	select {
	case a := <-answers:
		t.Errorf("%s: there is an answer: %q, %v", what, a.Lines, a.Err)
	case <-time.After(20 * sys.PollInterval):
	}
}

// Ends waits for the answer to a request, and fails the test where it is an error.
func Ends(t *testing.T, what string, answers <-chan Answer) {
	t.Helper()
	Within(t, what, func() {
		if a := <-answers; a.Err != nil {
			t.Errorf("%s: %q, %v", what, a.Lines, a.Err)
		}
	})
}
