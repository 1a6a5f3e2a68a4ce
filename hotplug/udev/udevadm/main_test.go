package udevadm

import (
	"os"
	"os/exec"
	"testing"

	"devspool/hotplug/kerneltest"
)

// asUdevadm makes the test binary the program.
const asUdevadm = "DEVSPOOL_AS_UDEVADM"

func TestMain(m *testing.M) {
	if os.Getenv(asUdevadm) == "1" {
		os.Exit(Run(os.Args, os.Environ(), Streams{Out: os.Stdout, Err: os.Stderr}))
	}
	os.Exit(kerneltest.Main(m))
}

// ours is a command that runs this udevadm.
func ours(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), asUdevadm+"=1")
	return cmd
}
