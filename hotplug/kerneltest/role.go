package kerneltest

import (
	"os"
	"os/exec"
)

// EnvRole is the environment variable that names the role of a process.
const EnvRole = "DEVSPOOL_TEST_ROLE"

// Roles has functions, by name, that tests have other processes run. A package adds its own in an init
// function. Main runs the function that EnvRole names, in place of the tests.
var Roles = map[string]func(){}

// Actor returns a command that runs the function of a role, in the test binary and with args as
// os.Args[1:]. It shares standard error with the test.
func Actor(role string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), EnvRole+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// playRole runs the function of this process's role, if it has one, and exits.
func playRole() {
	if role := Roles[os.Getenv(EnvRole)]; role != nil {
		role()
		os.Exit(0)
	}
}
