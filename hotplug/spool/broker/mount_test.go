package broker

import (
	"errors"
	"os"
	"strconv"
	"testing"

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
	for range 200 {
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
			for path := range map[string]bool{h.Events: true, h.Libudev: true, s.space.path: true} {
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
