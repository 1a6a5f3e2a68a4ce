package scheduler

import "testing"

// TestQueue shows that a queue gives out what came first, and keeps nothing.
func TestQueue(t *testing.T) {
	var q queue
	tasks := []*task{{}, {}, {}}
	for range 3 {
		for _, x := range tasks {
			q.push(x)
		}
		for _, x := range tasks {
			if q.pop() != x {
				t.Error("another one came first")
			}
		}
		if !q.empty() || q.tasks != nil {
			t.Error("something is left")
		}
	}
}
