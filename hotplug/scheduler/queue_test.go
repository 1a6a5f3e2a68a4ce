package scheduler

import "testing"

// TestQueue shows that a queue returns tasks in the order in which they came, and frees its
// memory when it is empty.
func TestQueue(t *testing.T) {
	t.Parallel()
	var q queue
	tasks := []*task{{}, {}, {}}
	for range 3 {
		for _, x := range tasks {
			q.push(x)
		}
		for _, x := range tasks {
			if q.take(q.head) != x {
				t.Error("another task came first")
			}
		}
		if q.length() != 0 || q.tasks != nil {
			t.Error("something is left")
		}
	}
}
