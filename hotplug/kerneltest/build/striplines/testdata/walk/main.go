// Walk has the runtime walk its stacks in all its ways: to grow them, to mark what they hold,
// to recover from panics, to stop what runs, and to print a traceback.
package main

import (
	"os"
	"runtime"

	"devspool/hotplug/glob"
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

// rescuer recovers by a method of what it embeds, which is called by way of a wrapper.
type rescuer struct{ *node }

func (n *node) rescue() { n.value, _ = recover().(int) }

//go:noinline
func failAgain() (value int) {
	r := rescuer{&node{}}
	defer func() { value = r.value }()
	defer interface{ rescue() }(r).rescue()
	panic(7)
}

// work goes on while the collector runs, with calls and without.
//
//go:noinline
func work(n int) (sum int) {
	for range n {
		for i := range 1000 {
			sum += i
		}
		if glob.Match("a*", "abc", false) {
			sum++
		}
	}
	return sum
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
	println(fail(nil, 3), failAgain())
	go func() { sums <- work(2000) }()
	for range 20 {
		runtime.GC()
	}
	println(<-sums)
	if len(os.Args) > 1 {
		panic("asked for")
	}
}
