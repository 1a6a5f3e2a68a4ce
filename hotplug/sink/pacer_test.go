package sink

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"devspool/hotplug/hotplugtest"
)

// newPaced returns a pacer for a group nobody listens to, and what it has sent.
func newPaced() (p *pacer, sent func() []string) {
	var mu sync.Mutex
	var all []string
	p = &pacer{groups: 1 << 31, send: func(msg []byte) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, string(msg))
	}}
	return p, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// TestPacerAlone shows that what is no burst is sent at once, and of one the first.
func TestPacerAlone(t *testing.T) {
	p, sent := newPaced()
	for n := range 3 {
		p.put([]byte(strconv.Itoa(n)))
		if got := sent(); len(got) != n+1 {
			t.Errorf("after %d: %q", n, got)
		}
	}
}

// TestPacerBurst shows that a burst goes out slower than it comes, whole and in order.
func TestPacerBurst(t *testing.T) {
	p, sent := newPaced()
	const many = 20 * paceBatch
	var want []string
	begun := time.Now()
	for n := range many {
		want = append(want, strconv.Itoa(n))
		p.put([]byte(want[n]))
	}
	if got := sent(); len(got) < paceBatch || len(got) == many && time.Since(begun) < paceTick {
		t.Errorf("at once were sent %d", len(got))
	}
	hotplugtest.Eventually(t, "the rest", func() bool { return len(sent()) == many })
	if took := time.Since(begun); took < 10*paceTick {
		t.Errorf("it took %v", took)
	}
	if got := sent(); !slices.Equal(got, want) {
		t.Errorf("sent was %q", got)
	}
	hotplugtest.Eventually(t, "the end", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.queue == nil && p.size == 0 })
}

// TestPacerFull shows that no more waits than may.
func TestPacerFull(t *testing.T) {
	p, sent := newPaced()
	big := make([]byte, 8<<10)
	for range 10 * paceQueue / len(big) {
		p.put(big)
		p.mu.Lock()
		if p.size > paceQueue {
			t.Errorf("%d bytes wait", p.size)
		}
		p.mu.Unlock()
	}
	p.flush(0)
	if got := sent(); len(got) != 10*paceQueue/len(big) {
		t.Errorf("%d were sent", len(got))
	}
}
