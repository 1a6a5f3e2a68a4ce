// Walk has the runtime walk its stacks in all its ways: to grow them, to mark what they hold,
// to recover from a panic, and to print a traceback.
package main

import (
	"os"
	"runtime"
)

type node struct {
	next  *node
	value int
}

//go:noinline
func descend(n int, above *node) int {
	here := &node{above, n}
	switch {
	case n > 0:
		return descend(n-1, here) + 1
	case n == 0:
		runtime.GC()
	}
	sum := 0
	for ; here != nil; here = here.next {
		sum += here.value
	}
	return sum
}

//go:noinline
func fail(values []int, n int) int {
	defer func() { println("recovered:", recover() != nil) }()
	return values[n]
}

func main() {
	println(descend(2000, nil))
	sums := make(chan int)
	for n := range 4 {
		go func() { sums <- descend(1000*n, nil) }()
	}
	total := 0
	for range 4 {
		total += <-sums
	}
	println(total)
	println(fail(nil, 3))
	if len(os.Args) > 1 {
		panic("asked for")
	}
}
