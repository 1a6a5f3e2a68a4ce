package hotplug

import (
	"errors"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug/log"
	"devspool/hotplug/pieces"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// parser is conf.ParseFiles, or conf.Check, which finds more problems.
type parser func(files []conf.File, ids conf.IDs) *conf.Config

// maxConf is how long the files of a config may be together, in bytes: as long as one may be.
const maxConf = 1 << 20

// readFiles reads the files of the config: its pieces, and then the file itself, or the default
// config where none is at the usual path. A file that was named must exist. A piece that cannot be
// read has a Fault, and costs no other.
func (o *Options) readFiles() (files []conf.File, err error) {
	paths := pieces.Files(absolute(o.Conf))
	last := len(paths) - 1
	if last > pieces.Max {
		return nil, errors.New(o.Conf + ": it has more than " + strconv.Itoa(pieces.Max) + " pieces; put several into one")
	}
	paths[last] = o.Conf // as it was named
	length := 0
	for i, path := range paths {
		file := conf.File{Name: path}
		file.Text, err = sys.ReadFile(path)
		missing := errors.Is(err, os.ErrNotExist)
		// A link to nothing is most often a mistake, or its file system is not mounted yet. The
		// default config would hide that.
		isLink := missing && unix.Lstat(path, new(unix.Stat_t)) == nil
		switch {
		case err == nil:
		case i < last && missing && !isLink: // it has just gone
			continue
		case i < last:
			file.Fault = err.Error()
		case isLink && o.way != RunHelper:
			return nil, errors.New(path + " is a link to what is not there; make the file, or remove the link")
		case missing && !o.ConfNamed:
			// A helper makes nodes rather than none, even with a link that leads nowhere.
			file.Name, file.Text = "default.conf", conf.Default
		default:
			return nil, err
		}
		files = append(files, file)
		length += len(file.Text)
	}
	if length > maxConf {
		return nil, errors.New(o.Conf + ": its files are longer than 1 MiB (1048576 bytes) together; make them shorter")
	}
	return files, nil
}

// readConf reads the config with parse. The config is nil where there is an error. Problems in the
// config are no error: what is wrong costs its own line.
func (o *Options) readConf(parse parser) (*conf.Config, error) {
	files, err := o.readFiles()
	if err != nil {
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
	c := parse(files, conf.IDs{Passwd: names("/etc/passwd"), Group: names("/etc/group")})
	if c.Err != nil {
		return nil, c.Err
	}
	c.Problems = append(c.Problems, unread...)
	// Rules may ask for attributes of the device, or of one above it, which devpath names then.
	c.Attr = func(devpath, path string) (value string, ok bool) {
		value, err := sys.ReadAttribute(o.Sys + devpath + "/" + path)
		return value, err == nil
	}
	// Major 0 is a file system without a device, such as an initramfs or overlayfs.
	var root unix.Stat_t
	if unix.Stat("/", &root) == nil && unix.Major(uint64(root.Dev)) != 0 {
		c.Root = uevent.Dev{Block: true, Major: unix.Major(uint64(root.Dev)), Minor: unix.Minor(uint64(root.Dev))}
	}
	return c, nil
}

// Check calls say with each problem of the config, as a line, until say fails. The Result is BadConfig
// where there are problems, or the config cannot be read. Unlike the other calls it finds what is
// doubtful too.
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
// where it is "". The events have the ACTION of the environment, or else add. Nothing is changed, and
// no loop is asked: the plan is that of the config as it is now.
func Plan(o *Options, device string, say func(text string) error) Result {
	o.makeAbsolute()
	c, err := o.readConf(conf.ParseFiles)
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

// PrintConf calls say with the text of the config that is in force: each of its files behind a
// comment that names it. What is printed is a config that says the same.
func PrintConf(o *Options, say func(text string) error) Result {
	files, err := o.readFiles()
	if err != nil {
		return failed(BadConfig, err)
	}
	for i := range files {
		file := &files[i]
		text := "# " + uevent.Printable(file.Name+" "+file.Fault) + "\n" + file.Text + "\n\n" // so that no line goes on in the next file
		if say(text) != nil {
			return Failed
		}
	}
	return Done
}

// makeAbsolute makes the paths independent of the working directory, which a loop in the background
// leaves, and commands have another one.
func (o *Options) makeAbsolute() {
	for _, option := range []*string{&o.Dev, &o.Sys, &o.Conf, &o.Firmware, &o.Events, &o.Libudev} {
		if *option == "" || option == &o.Events && *option == NoEvents {
			continue
		}
		*option = absolute(*option)
	}
}

// absolute returns a path made independent of the working directory, and clean.
// It stays relative where the working directory was removed.
func absolute(name string) string {
	if !path.IsAbs(name) {
		var cwd [unix.PathMax]byte
		if n, err := unix.Getcwd(cwd[:]); err == nil {
			name = string(cwd[:n-1]) + "/" + name // getcwd(2) counts the NUL
		}
	}
	return path.Clean(name)
}
