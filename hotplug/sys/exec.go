package sys

import (
	"strings"

	"golang.org/x/sys/unix"
)

// defaultPath is searched for programs where the environment has no PATH. It is the PATH that
// the kernel gives to its helpers (call_usermodehelper in kernel/umh.c).
const defaultPath = "/sbin:/bin:/usr/sbin:/usr/bin"

// Getenv returns the value of a variable in an environment of KEY=VALUE, or "". The first of
// two with one name counts.
func Getenv(env []string, key string) string {
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, key+"="); ok {
			return value
		}
	}
	return ""
}

// Unsetenv returns a copy of an environment without a variable.
func Unsetenv(env []string, key string) (rest []string) {
	for _, kv := range env {
		if !strings.HasPrefix(kv, key+"=") {
			rest = append(rest, kv)
		}
	}
	return rest
}

// LookPath finds a program by the PATH of an environment, as execvp(3) does. It returns "" where
// there is none. A name with a slash is a path, and returned as it is.
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

// Executable reports whether path leads to a regular file that this process may execute.
func Executable(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && unix.Access(path, unix.X_OK) == nil
}
