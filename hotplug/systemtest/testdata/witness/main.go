// Witness is the command that the tests have rules run. It needs no shell: it
// appends a line with what it was given to the file named by its first argument:
// the other arguments, the working directory, the umask and the environment, as
// JSON.
package main

import (
	"encoding/json"
	"os"
	"syscall"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func run(file string, args []string) error {
	umask := syscall.Umask(0)
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	line, err := json.Marshal(map[string]any{
		"Args": args, "Dir": dir, "Umask": umask, "Env": os.Environ(),
	})
	if err != nil {
		return err
	}
	// One write of an appending descriptor: lines of several witnesses stay whole.
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	return f.Close()
}
