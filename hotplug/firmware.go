package hotplug

import (
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// loadFirmware answers a request of the kernel's user helper for firmware
// (Documentation/driver-api/firmware/fallback-mechanisms.rst): 1 to loading, the
// file to data, 0 to loading; or -1 to loading, where there is no such file. It
// reports whether the device has its firmware now.
func (r *Road) loadFirmware(e *uevent.Event, name string) bool {
	dir := string(r.Sys) + e.Devpath
	loading, err := openSoon(dir+"/loading", 30*time.Second)
	if err != nil {
		r.Log.Event(log.Err, "firmware", e, name+": "+dir+"/loading: "+err.Error())
		return false
	}
	defer unix.Close(loading)
	file, path := r.openFirmware(name)
	if file < 0 {
		r.Log.Event(log.Err, "firmware", e, name+": not in "+strings.Join(r.firmwarePaths(), ", "))
		unix.Write(loading, []byte("-1"))
		return false
	}
	defer unix.Close(file)
	unix.Write(loading, []byte("1"))
	if err := copyTo(dir+"/data", file); err != nil {
		r.Log.Event(log.Err, "firmware", e, path+": "+err.Error())
		unix.Write(loading, []byte("-1"))
		return false
	}
	unix.Write(loading, []byte("0"))
	r.Log.Event(log.Info, "firmware", e, path)
	return true
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

// firmwarePaths are the directories that the kernel itself would search.
func (r *Road) firmwarePaths() []string {
	release := ""
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		release = "/" + unix.ByteSliceToString(u.Release[:])
	}
	return []string{r.Firmware + "/updates" + release, r.Firmware + "/updates", r.Firmware + release, r.Firmware}
}

// openFirmware opens the first regular file of that name. The name is clean: it
// has no "..".
func (r *Road) openFirmware(name string) (int, string) {
	for _, dir := range r.firmwarePaths() {
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
