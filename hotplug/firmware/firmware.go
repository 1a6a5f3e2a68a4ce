// Package firmware answers the kernel's requests for firmware, for kernels that load it with
// the help of user space (Documentation/driver-api/firmware/fallback-mechanisms.rst).
//
// It never looks outside the firmware directory, provided that names are clean (see Load),
// and never decides which events are requests.
package firmware

import (
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// Loader answers requests for firmware.
type Loader struct {
	Dir string // the directory that holds firmware, such as /lib/firmware
	Sys sysfs.FS
	Log *log.Logger
}

// loadingLimit is how long Load waits until the driver is ready for an answer. The kernel gives up
// after 60 s, unless its timeout was changed (/sys/class/firmware/timeout).
const loadingLimit = 30 * time.Second

// Load answers a request: it writes 1 to the attribute loading of the device of e, the file
// name to its data, and 0 to loading; or -1 to loading where there is no such file. The name
// must be clean, without "..". Load reports whether the device has its firmware now, and
// logs the reason where it has not. It may block for loadingLimit.
func (l *Loader) Load(e *uevent.Event, name string) bool {
	path, err := l.answer(string(l.Sys)+e.Devpath, name)
	if err != nil {
		l.Log.Event(log.Err, "firmware", e, err.Error())
		return false
	}
	l.Log.Event(log.Info, "firmware", e, path)
	return true
}

// answer answers the request of the device at dir. It returns the path of the file that the
// device got.
func (l *Loader) answer(dir, name string) (path string, err error) {
	loading, err := openSoon(dir+"/loading", loadingLimit)
	if err != nil {
		return "", errors.New(name + ": " + dir + "/loading: " + err.Error())
	}
	defer unix.Close(loading)
	file, path := l.open(name)
	if file == sys.None {
		err = errors.New(name + ": not in " + strings.Join(l.dirs(), ", "))
	} else {
		defer unix.Close(file)
		// The protocol: 1 begins, the data may come in pieces, 0 says that all of it is there. After an
		// error the driver must not take half of a file for the whole.
		if err = write(loading, "1"); err == nil {
			err = copyTo(dir+"/data", file)
		}
		if err == nil {
			err = write(loading, "0")
		}
		if err != nil {
			err = errors.New(path + ": " + err.Error())
		}
	}
	if err == nil {
		return path, nil
	}
	_ = write(loading, "-1") // fails where the device has gone; any other driver waits for its timeout
	return "", err
}

// write writes text to an attribute, which takes it in one write.
func write(fd int, text string) error {
	_, err := unix.Write(fd, []byte(text))
	return err
}

// openSoon opens a file of sysfs for writing, which may appear only after the event that
// asks for it. It returns ENOENT where that takes longer than limit.
func openSoon(path string, limit time.Duration) (int, error) {
	for start := sys.Now(); ; time.Sleep(50 * time.Millisecond) {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != unix.ENOENT || start.Age() > limit {
			return fd, err
		}
	}
}

// dirs returns the directories that the kernel itself searches, in its order (fw_path in
// drivers/base/firmware_loader/main.c).
func (l *Loader) dirs() []string {
	release := "/" + sys.Release()
	return []string{l.Dir + "/updates" + release, l.Dir + "/updates", l.Dir + release, l.Dir}
}

// open opens the first regular file of that name in dirs. It returns sys.None where there is
// none. It follows links.
func (l *Loader) open(name string) (fd int, path string) {
	for _, dir := range l.dirs() {
		path = dir + "/" + name
		if fd, err := sys.OpenRegular(path); err == nil {
			return fd, path
		}
	}
	return sys.None, ""
}

// copyTo writes the rest of the file from into the file at path.
func copyTo(path string, from int) error {
	to, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(from, buf)
		if n <= 0 || err != nil {
			return err
		}
		// An attribute may take less at once than it is given.
		for rest := buf[:n]; len(rest) > 0; {
			n, err := unix.Write(to, rest)
			if err != nil {
				return err
			}
			rest = rest[n:]
		}
	}
}
