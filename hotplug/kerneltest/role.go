package kerneltest

import (
	"os"
	"os/exec"
)

// EnvRole is the environment variable that names the role of a process.
const EnvRole = "DEVSPOOL_TEST_ROLE"

// Roles holds, by name, what tests have other processes do. A package fills it in an
// init function; Main plays the role that EnvRole names in place of running tests.
var Roles = map[string]func(){}

// Actor returns a command that runs the test binary in a role, with its standard error
// and os.Args[1:] as args.
func Actor(role string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), EnvRole+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// playRole plays the role of this process, if it has one.
func playRole() {
	if role := Roles[os.Getenv(EnvRole)]; role != nil {
		role()
		os.Exit(0)
	}
}
