package broker

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/spool"
)

// A client makes its queue as soon as the root is there. No mount hides it.
func TestFirstQueue(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	plain := 0
	for range 100 {
		t.Run("", func(t *testing.T) {
			h := newShop(t)
			kerneltest.MountTmpfs(t, "/dev")
			h.must(os.Mkdir("/dev/.devspool", 0o700))
			h.Resident = false
			made := make(chan error)
			go func() { made <- hasten(h.Events) }()
			s := h.open()
			h.must(<-made)
			h.publish(s, 1, 1)
			h.holds(h.Events+"/"+hasty(), "1")
			if !s.space.mounted {
				plain++
			}
			s.Close()
			for _, path := range []string{h.Events, h.Libudev, s.space.path} {
				for unix.Unmount(path, unix.MNT_DETACH) == nil {
					if !s.space.mounted {
						t.Errorf("a tmpfs is left on %s", path)
					}
				}
			}
		})
	}
	t.Logf("%d clients were faster than the mount", plain)
}

// A client makes its queue while the spool is left. It gets the events of the next start.
func TestLastQueue(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	random, kept := rand.New(rand.NewPCG(1, 1)), 0
	for range 100 {
		t.Run("", func(t *testing.T) {
			h := newShop(t)
			kerneltest.MountTmpfs(t, "/dev")
			h.must(os.Mkdir("/dev/.devspool", 0o700))
			s := h.open()
			pause := time.Duration(random.IntN(30_000)) * time.Microsecond
			made := make(chan error)
			go func() {
				for start := time.Now(); time.Since(start) < pause; {
				}
				made <- hasten(h.Events)
			}()
			s.Leave()
			h.must(<-made)
			if h.said("stay mounted") {
				kept++
			}
			s = h.open()
			h.publish(s, 1, 1)
			h.holds(h.Events+"/"+hasty(), "1")
			s.Close()
			for _, path := range []string{h.Events, h.Libudev, s.space.path} {
				for unix.Unmount(path, unix.MNT_DETACH) == nil {
				}
			}
		})
	}
	t.Logf("%d times a queue was there in time", kept)
}

func hasty() string { return "hasty-" + strconv.Itoa(os.Getpid()) }

// hasten makes a queue at root as soon as it can.
func hasten(root string) error {
	hidden := root + "/.hasty"
	for {
		err := os.Mkdir(hidden, 0o755)
		if err == nil || errors.Is(err, os.ErrExist) {
			err = os.WriteFile(hidden+"/"+spool.NoLinksFile, nil, 0o644)
		}
		if err == nil {
			err = os.Rename(hidden, root+"/"+hasty())
		}
		// There is no root yet, or a mount came between two of these calls.
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EXDEV) {
			return err
		}
	}
}
