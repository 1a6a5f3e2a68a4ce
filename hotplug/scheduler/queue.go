package scheduler

// queue is a first-in first-out list of tasks.
type queue struct {
	tasks []*task
	head  int // index of the first one
}

func (q *queue) push(t *task) { q.tasks = append(q.tasks, t) }

func (q *queue) length() int { return len(q.tasks) - q.head }

// pop removes the first task of a queue that is not empty. The memory of a queue that
// becomes empty is freed.
func (q *queue) pop() *task {
	t := q.tasks[q.head]
	q.tasks[q.head] = nil
	if q.head++; q.length() == 0 {
		*q = queue{}
	}
	return t
}
