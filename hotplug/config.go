package hotplug

import (
	"errors"
	"os"
	"path"
	"strconv"
	"strings"

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

// confFiles are the files of a config that were read.
type confFiles struct {
	files    []conf.File    // the pieces and the file itself, or the default config
	hidden   []string       // the paths of pieces that others hide
	problems []conf.Problem // of pieces that could not be read
}

// readFiles reads the files of the config, with the default config in place of a file that is
// missing at the usual path. A file that was named must exist. A piece that cannot be read is a
// problem, and costs no other.
func (o *Options) readFiles() (c confFiles, err error) {
	last := conf.File{Name: o.Conf}
	last.Text, err = sys.ReadFile(o.Conf)
	switch {
	case err == nil:
	case errors.Is(err, os.ErrNotExist) && o.way != RunHelper && unix.Lstat(o.Conf, new(unix.Stat_t)) == nil:
		return c, errors.New(o.Conf + " is a link to what is not there; make the file, or remove the link")
	case errors.Is(err, os.ErrNotExist) && !o.ConfNamed:
		last = conf.File{Name: "default.conf", Text: conf.Default}
	default:
		return c, err
	}
	used, hidden := pieces.List(absolute(o.Conf))
	if len(used) > pieces.Max {
		return c, errors.New(o.Conf + ": it has more than " + strconv.Itoa(pieces.Max) + " pieces; put several into one")
	}
	c.hidden = hidden
	length := len(last.Text)
	for _, path := range used {
		text, err := sys.ReadFile(path)
		switch {
		case err == nil:
			c.files = append(c.files, conf.File{Name: path, Text: text})
			length += len(text)
		case errors.Is(err, os.ErrNotExist) && unix.Lstat(path, new(unix.Stat_t)) != nil: // it has just gone
		default:
			c.problems = append(c.problems, unreadable(path, err, "until then it is not used"))
		}
	}
	if length > maxConf {
		return c, errors.New(o.Conf + ": its files are longer than 1 MiB (1048576 bytes) together; make them shorter")
	}
	c.files = append(c.files, last)
	return c, nil
}

// unreadable returns the Problem that a file cannot be read.
func unreadable(path string, err error, remedy string) conf.Problem {
	return conf.Problem{File: path, Line: 1, Column: 1, What: err.Error(), Remedy: remedy}
}

// readConf reads the config with parse. The config is nil where there is an error.
func (o *Options) readConf(parse parser) (*conf.Config, error) {
	read, err := o.readFiles()
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
				unread = append(unread, unreadable(path, err, "until then names become root"))
			}
			read = true
			return text
		}
	}
	c := parse(read.files, conf.IDs{Passwd: names("/etc/passwd"), Group: names("/etc/group")})
	if c.Err != nil {
		return nil, c.Err
	}
	c.Problems = append(append(c.Problems, read.problems...), unread...)
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
	read, err := o.readFiles()
	if err != nil {
		return failed(BadConfig, err)
	}
	var failure error // of the last write
	comment := func(text string) { failure = say("# " + uevent.Printable(text) + "\n") }
	for _, path := range read.hidden {
		comment(path + " is hidden by the file of its name in " + o.Conf + ".d")
	}
	for i := range read.problems {
		comment(read.problems[i].String())
	}
	for i := range read.files {
		file := &read.files[i]
		comment(file.Name)
		text := file.Text
		for i := 0; i < 2 && text != "" && (text[len(text)-1] != '\n' || strings.HasSuffix(text, "\\\n")); i++ {
			text += "\n" // the second one where the last line would go on in the next file
		}
		failure = say(text)
	}
	return result(failure == nil)
}

// makeAbsolute makes the paths independent of the working directory.
func (o *Options) makeAbsolute() {
	for _, option := range []*string{&o.Dev, &o.Sys, &o.Conf, &o.Firmware, &o.Events, &o.Libudev} {
		if *option == "" || option == &o.Events && *option == NoEvents {
			continue
		}
		*option = absolute(*option)
	}
}

// absolute returns a path made independent of the working directory, and clean.
func absolute(name string) string {
	if !path.IsAbs(name) {
		var cwd [unix.PathMax]byte
		if n, err := unix.Getcwd(cwd[:]); err == nil {
			name = string(cwd[:n-1]) + "/" + name
		}
	}
	return path.Clean(name)
}
