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

// Loader answers the kernel's requests for firmware.
type Loader struct {
	Dir string // the directory that firmware lies in
	Sys sysfs.FS
	Log *log.Logger
}

// Load answers a request of the kernel's user helper for firmware
// (Documentation/driver-api/firmware/fallback-mechanisms.rst): 1 to loading, the
// file to data, 0 to loading; or -1 to loading, where there is no such file. It
// reports whether the device has its firmware now.
func (l Loader) Load(e *uevent.Event, name string) bool {
	path, err := l.answer(string(l.Sys)+e.Devpath, name)
	if err != nil {
		l.Log.Event(log.Err, "firmware", e, err.Error())
		return false
	}
	l.Log.Event(log.Info, "firmware", e, path)
	return true
}

// answer gives the device at dir its firmware, or tells it that there is none. It returns
// the file's path.
func (l Loader) answer(dir, name string) (path string, err error) {
	loading, err := openSoon(dir+"/loading", 30*time.Second)
	if err != nil {
		return "", errors.New(name + ": " + dir + "/loading: " + err.Error())
	}
	defer unix.Close(loading)
	file, path := l.open(name)
	if file < 0 {
		unix.Write(loading, []byte("-1"))
		return "", errors.New(name + ": not in " + strings.Join(l.dirs(), ", "))
	}
	defer unix.Close(file)
	if _, err = unix.Write(loading, []byte("1")); err == nil {
		if err = copyTo(dir+"/data", file); err == nil {
			_, err = unix.Write(loading, []byte("0"))
		}
	}
	if err != nil {
		unix.Write(loading, []byte("-1")) // which fails where the device has gone
		return "", errors.New(path + ": " + err.Error())
	}
	return path, nil
}

// openSoon opens a file of sysfs that may not be there yet.
func openSoon(path string, limit time.Duration) (int, error) {
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != unix.ENOENT || time.Now().After(end) {
			return fd, err
		}
	}
}

// dirs are the directories that the kernel itself would search.
func (l Loader) dirs() []string {
	release := ""
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		release = "/" + unix.ByteSliceToString(u.Release[:])
	}
	return []string{l.Dir + "/updates" + release, l.Dir + "/updates", l.Dir + release, l.Dir}
}

// open opens the first regular file of that name. The name is clean: it
// has no "..".
func (l Loader) open(name string) (int, string) {
	for _, dir := range l.dirs() {
		path := dir + "/" + name
		if fd, err := sys.OpenRegular(path); err == nil {
			return fd, path
		}
	}
	return -1, ""
}

// copyTo writes what is left of from into the file at path.
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
		for chunk := buf[:n]; len(chunk) > 0; {
			n, err := unix.Write(to, chunk)
			if err != nil {
				return err
			}
			chunk = chunk[n:]
		}
	}
}
