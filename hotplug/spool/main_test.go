package spool

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
)

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "8") // the tests mostly wait; an explicit -parallel overrides this
	os.Exit(kerneltest.Main(m))
}

const patience = 20 * time.Second

// printNumbers prints N of each event, up to one without.
func printNumbers(r *Reader, err error) {
	if err != nil {
		panic(err)
	}
	defer r.Close()
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for {
		e, err := r.Next()
		if err != nil {
			panic(err)
		}
		n, more := e.Get("N")
		if !more {
			return
		}
		fmt.Fprintln(out, n)
	}
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
