package hotplug

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// parser is conf.Parse, or conf.Check, which finds more problems.
type parser func(name, text string, ids conf.IDs) *conf.Config

// readConf reads the config with parse, or the default config where there is no file at the usual path.
// A file that was named must exist. The config is nil where there is an error.
func (o *Options) readConf(parse parser) (*conf.Config, error) {
	file := o.Conf
	text, err := sys.ReadFile(o.Conf)
	switch {
	case err == nil:
	case errors.Is(err, os.ErrNotExist) && o.way != RunHelper && unix.Lstat(o.Conf, new(unix.Stat_t)) == nil:
		return nil, errors.New(o.Conf + " is a link to what is not there; make the file, or remove the link")
	case errors.Is(err, os.ErrNotExist) && !o.ConfNamed:
		file, text = "default.conf", conf.Default
	default:
		return nil, err
	}
	// Few configs name a user, so passwd and group are read when the first name is looked up.
	var unread []conf.Problem // of these two files
	names := func(path string) func() string {
		var text string
		read := false
		return func() string {
			if read {
				return text
			}
			var err error
			if text, err = sys.ReadFile(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				unread = append(unread, conf.Problem{File: path, Line: 1, Column: 1,
					What: err.Error(), Remedy: "until then names become root"})
			}
			read = true
			return text
		}
	}
	c := parse(file, text, conf.IDs{Passwd: names("/etc/passwd"), Group: names("/etc/group")})
	if c.Err != nil {
		return nil, c.Err
	}
	c.Problems = append(c.Problems, unread...)
	c.Attr = func(devpath, path string) (value string, ok bool) {
		value, err := sys.ReadAttribute(o.Sys + devpath + "/" + path)
		return value, err == nil
	}
	var root unix.Stat_t
	if unix.Stat("/", &root) == nil && unix.Major(uint64(root.Dev)) != 0 {
		c.Root = uevent.Dev{Block: true, Major: unix.Major(uint64(root.Dev)), Minor: unix.Minor(uint64(root.Dev))}
	}
	return c, nil
}

// Check calls say with each problem of the config, as a line, until say fails. The Result is BadConfig
// where there are problems, or the config cannot be read.
func Check(o *Options, say func(text string) error) Result {
	c, err := o.readConf(conf.Check)
	if err != nil {
		return failed(BadConfig, err)
	}
	for _, p := range c.Problems {
		if say(p.String()+"\n") != nil {
			break
		}
	}
	if len(c.Problems) > 0 {
		return BadConfig
	}
	return Done
}

// Plan calls say with the plan of the device that device names (see sysfs.FS.Find), or of every device
// where it is "". The events have the ACTION of the environment, or else add.
func Plan(o *Options, device string, say func(text string) error) Result {
	o.makeAbsolute()
	c, err := o.readConf(conf.Parse)
	if err != nil {
		return failed(BadConfig, err)
	}
	action := sys.Getenv(o.Environ, "ACTION")
	if action == "" {
		action = uevent.Add
	}
	events, err := sysfs.FS(o.Sys).Events(action, device, o.Dev)
	if err != nil {
		return failed(Failed, err)
	}
	for _, e := range events {
		if say(c.Plan(e).String()) != nil {
			return Failed
		}
	}
	return Done
}

// failed writes an error to standard error, and returns r.
func failed(r Result, err error) Result {
	log.Stderr().Print(log.Err, err.Error())
	return r
}

// makeAbsolute makes the paths independent of the working directory.
func (o *Options) makeAbsolute() {
	var cwd [unix.PathMax]byte
	n, err := unix.Getcwd(cwd[:])
	for _, option := range []*string{&o.Dev, &o.Sys, &o.Conf, &o.Firmware, &o.Events, &o.Libudev} {
		if *option == "" || option == &o.Events && *option == NoEvents {
			continue
		}
		if !path.IsAbs(*option) && err == nil {
			*option = string(cwd[:n-1]) + "/" + *option
		}
		*option = path.Clean(*option)
	}
}
