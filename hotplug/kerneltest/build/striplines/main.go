// Striplines takes out of a Go program, in place, what serves tracebacks alone: the tables of
// source lines, those of inlined functions, those that tell where the arguments of functions lie,
// and the directories in the names of a module's packages. That is a fifth of a small program.
// Tracebacks keep the names of functions and the offsets in them; "make KEEPLINES=yes" builds the
// same code with all of it.
//
// The runtime also asks what is inlined at a place before a signal interrupts a goroutine there.
// In a program without, none does: goroutines give way at calls alone, see alwaysUnsafe. And recover
// goes by it, so that it could end a panic in a function that a deferred one has called.
//
//	striplines PROGRAM...
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: striplines PROGRAM...")
		os.Exit(2)
	}
	failed := false
	for _, path := range os.Args[1:] {
		if err := stripFile(path); err != nil {
			fmt.Fprintf(os.Stderr, "striplines: %s: %v\n", path, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

// stripFile replaces a program by one without lines. A program of a Go release whose tables
// are not known stays as it is, which is said and is no failure: it works, and is larger.
func stripFile(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	stripped, err := strip(data)
	if errors.Is(err, errUnknown) {
		fmt.Fprintf(os.Stderr, "striplines: %s keeps its lines: %v\n", path, err)
		return nil
	}
	if err != nil {
		return err
	}
	temp := path + ".stripped"
	if err = os.WriteFile(temp, stripped, 0o777); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp)
	}
	return err
}
