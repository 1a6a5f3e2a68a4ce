package scheduler

// queue is a first-in first-out list of tasks.
type queue struct {
	tasks []*task
	head  int // index of the first one
}

// push adds t at the end.
func (q *queue) push(t *task) { q.tasks = append(q.tasks, t) }

func (q *queue) length() int { return len(q.tasks) - q.head }

// take removes the task with an index, which is the first one most of the time. The memory of
// a queue that becomes empty is freed.
func (q *queue) take(i int) *task {
	t := q.tasks[i]
	// Those in front of it move back by one, so they keep their order.
	copy(q.tasks[q.head+1:i+1], q.tasks[q.head:i])
	q.tasks[q.head] = nil
	if q.head++; q.length() == 0 {
		*q = queue{}
	}
	return t
}
