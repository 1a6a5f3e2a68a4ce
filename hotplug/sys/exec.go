package sys

import (
	"strings"

	"golang.org/x/sys/unix"
)

// defaultPath is searched for programs where the environment has no PATH. It is
// what the kernel gives to its helpers.
const defaultPath = "/sbin:/bin:/usr/sbin:/usr/bin"

// Getenv returns the value of a variable in an environment, or "".
func Getenv(env []string, key string) string {
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, key+"="); ok {
			return value
		}
	}
	return ""
}

// LookPath finds a program as execvp does: "" where there is none.
func LookPath(name string, env []string) string {
	if strings.IndexByte(name, '/') >= 0 {
		return name
	}
	path := Getenv(env, "PATH")
	if path == "" {
		path = defaultPath
	}
	for dir := range strings.SplitSeq(path, ":") {
		if program := dir + "/" + name; dir != "" && Executable(program) {
			return program
		}
	}
	return ""
}

func Executable(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && unix.Access(path, unix.X_OK) == nil
}
