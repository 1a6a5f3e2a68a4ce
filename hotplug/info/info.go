// Package info is the tool that shows what a device is called and what is known of it:
// devspool info. It writes in the forms of udevadm info.
//
// It changes nothing, and knows of a device what Lookup tells.
package info

import (
	"io"
	"strings"

	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes/identity"
)

// The exit codes, which are those of devspool.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 100
)

// Streams are what the tool writes to.
type Streams struct{ Out, Err io.Writer }

// Lookup is where it looks: a sysfs, the directory that nodes are in (/dev), and what
// finds the names of a device.
type Lookup struct {
	Sys      sysfs.FS
	Dev      string
	Identify func(*uevent.Event) identity.Identity
}

const usage = `usage: devspool info [OPTION]... DEVICE...

Shows the names and properties of devices. A DEVICE is a node or a link below /dev, a
path below /sys, or a devpath.

  -q, --query=WHAT   show: all (as is without this option), property, name, symlink, path
  -p, --path=PATH    the same as DEVICE
  -n, --name=NAME    the same as DEVICE, below /dev
  -r, --root         begin names and links with /dev/
  -x, --export       show properties as KEY='VALUE', for a shell
  -P, --export-prefix=TEXT
                     the same, and put TEXT before each key
      --property=KEY show only these properties; may be given several times
      --value        show the values of properties alone
      --json         show properties as a line of JSON
  -e, --export-db    show every device
  -h, --help         show this

What a disk holds is read where the caller may open it.
`

// options is a command line that was read.
type options struct {
	query, prefix             string
	root, export, value, json bool
	all                       bool
	only                      []string
	devices                   []string
}

// misuse says what is wrong with a command line.
type misuse string

// errHelp stands for a request for help.
const errHelp misuse = "help"

// parse reads a command line.
func parse(args []string) (o options, wrong misuse) {
	o.query = "all"
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if len(arg) < 2 || arg[0] != '-' {
			o.devices = append(o.devices, arg)
			continue
		}
		name, value, given := strings.Cut(arg, "=")
		if arg[1] != '-' && len(arg) > 2 { // -qproperty
			name, value, given = arg[:2], strings.TrimPrefix(arg[2:], "="), true
		}
		flag, isFlag := o.flag(name)
		switch {
		case name == "-h" || name == "--help":
			return o, errHelp
		case isFlag && given:
			return o, misuse(name + " takes no value")
		case isFlag:
			*flag = true
			continue
		case !given && len(args) == 0:
			return o, misuse(name + " needs a value, or is not known")
		case !given:
			value, args = args[0], args[1:]
		}
		if !o.set(name, value) {
			return o, misuse("unknown option " + name)
		}
	}
	switch {
	case !isQuery(o.query):
		return o, misuse("no such query: " + o.query)
	case o.all && len(o.devices) > 0:
		return o, "--export-db shows every device: name none"
	case !o.all && len(o.devices) == 0:
		return o, "name a device"
	}
	return o, ""
}

func isQuery(query string) bool {
	switch query {
	case "all", "property", "name", "symlink", "path":
		return true
	}
	return false
}

// flag returns what an option without a value sets.
func (o *options) flag(name string) (*bool, bool) {
	switch name {
	case "-r", "--root":
		return &o.root, true
	case "-x", "--export":
		return &o.export, true
	case "--value":
		return &o.value, true
	case "--json":
		return &o.json, true
	case "-e", "--export-db":
		return &o.all, true
	}
	return nil, false
}

// set takes an option with its value.
func (o *options) set(name, value string) bool {
	switch name {
	case "-q", "--query":
		o.query = value
	case "-P", "--export-prefix":
		o.prefix, o.export = value, true
	case "--property":
		o.only = append(o.only, strings.Split(value, ",")...)
	case "-p", "--path":
		if !strings.HasPrefix(value, "/") {
			value = "/" + value
		}
		o.devices = append(o.devices, value)
	case "-n", "--name":
		if !strings.HasPrefix(value, "/") {
			value = "/dev/" + value
		}
		o.devices = append(o.devices, value)
	default:
		return false
	}
	return true
}

// Run is the tool. It returns the exit code.
func Run(args []string, streams Streams, look Lookup) int {
	o, wrong := parse(args)
	if wrong == errHelp {
		io.WriteString(streams.Out, usage)
		return exitDone
	}
	if wrong != "" {
		io.WriteString(streams.Err, usage+"\n"+string(wrong)+"\n")
		return exitUsage
	}
	if o.all {
		o.devices = []string{""}
	}
	code, shown := exitDone, 0
	for _, name := range o.devices {
		// A change: what a device deserves while it is there.
		events, err := look.Sys.Events(uevent.Change, name, look.Dev)
		if err != nil {
			io.WriteString(streams.Err, "devspool info: error: "+uevent.Printable(name)+": "+err.Error()+"\n")
			code = exitFailed
			continue
		}
		for _, e := range events {
			text := o.render(newDevice(look, e))
			if shown > 0 && o.query == "all" && !o.json {
				text = append([]byte{'\n'}, text...)
			}
			if _, err := streams.Out.Write(text); err != nil {
				return exitFailed
			}
			shown++
		}
	}
	return code
}
