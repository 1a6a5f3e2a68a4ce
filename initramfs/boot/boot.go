// Package boot tests the program on real kernels: it packs an image, boots it,
// and runs the test's own code there as /init.
//
// It is for tests only. A test that boots has two halves in one function: Run
// boots a kernel when it is called on this machine, and calls its function
// when it is called inside of one. For this the test binary, built without cgo,
// is the image's /init, and TestMain hands over to Main:
//
//	func TestMain(m *testing.M) { boot.Main(m) }
//
//	func TestDisks(t *testing.T) {
//		lab := boot.NewLab(t)
//		lab.Run(t, boot.Options{Kernel: boot.UML}, func(g *boot.Guest) { ... })
//	}
//
// A failure in the guest is a failure of the test, told with the console's end.
package boot

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"devspool/initramfs"
)

// Options says what is booted. The zero Options boots User Mode Linux with
// nothing but the program.
type Options struct {
	Kernel  Kernel
	Memory  int           // in MiB; 0 stands for 256
	Timeout time.Duration // of the whole boot; 0 stands for fifteen minutes

	Helper  bool              // whether the program is /sbin/hotplug, too
	Bare    bool              // whether /dev is empty: without null and console
	Modules []string          // kernel modules for Guest.Insmod; what they need comes along
	Files   []initramfs.Entry // of the image, beside those that every boot has
	Append  []string          // parameters of the kernel
	Devices []string          // further arguments of QEMU, or of User Mode Linux
	Answers map[string]string // what is typed at the console where it says what
	Root    *Root             // the program is /init, and the guest runs in a root of its own
}

// Kernel is the kind of machine that a boot needs.
type Kernel uint8

const (
	// UML is Debian's User Mode Linux, which starts /sbin/hotplug for each event.
	UML Kernel = iota
	// QEMU is Debian's kernel for amd64 under software emulation, without helper.
	QEMU
	// Arm64, Arm and S390x are Debian's kernels for other architectures, for NewForeignLab.
	Arm64
	Arm
	S390x
)

// The names of the kernel's parameters that tell the guest what to do. The
// kernel keeps parameters with a dot from init.
const (
	paramTest    = "devspool.boot"
	paramTimeout = "devspool.timeout"
)

// The lines that the guest says on the console, and the host waits for.
const (
	lineRan  = "devspool-boot: ran "
	lineExit = "devspool-boot: exit "
)

// Main runs the tests, or where it is process 1 the guest's side of one test. It
// does not return.
func Main(m *testing.M) {
	if os.Getpid() == 1 {
		initialize()
	}
	if filepath.Base(os.Args[0]) == Plugger {
		plug()
	}
	os.Exit(m.Run())
}

// NotTested ends a test for want of something, loudly: it is skipped, or fails
// where DEVSPOOL_TEST_ALL=1 says that everything has to be there.
func NotTested(t testing.TB, what, missing string) {
	t.Helper()
	line := fmt.Sprintf("NOT TESTED: %s: %s", what, missing)
	if os.Getenv("DEVSPOOL_TEST_ALL") == "1" {
		t.Fatal(line)
	}
	t.Skip(line)
}

// needs calls NotTested unless the tool is there.
func needs(t testing.TB, what, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		NotTested(t, what, tool)
	}
}
