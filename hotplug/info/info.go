// Package info is the tool that shows what a device is called and what is known of it:
// devspool info. It writes in the forms of udevadm info.
//
// It changes nothing, and knows of a device what Lookup tells and what lies below /dev.
package info

import (
	"io"
	"strings"

	"devspool/hotplug/cli"
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
	Identify func(*uevent.Event) *identity.Identity

	// Serves says that links are made in Dev: those that a device has not are left out.
	Serves bool
}

// options is a command line.
type options struct {
	query, only     string // one of queries; keys with commas between, or "" for all
	export, value   bool
	json, all, help bool
	dev, sys        string
	devices         []string
}

// The queries, which begin with different letters: all, property, name, symlink, path.
const queries = " all property name symlink path "

// table is the table of the options, which are stored in o.
func (o *options) table() []cli.Option {
	return []cli.Option{
		{Name: "-q, --query WHAT", Text: &o.query, Help: "show all (the default), property, name, symlink or path"},
		{Name: "--property KEY,...", Text: &o.only, Help: "show only these properties"},
		{Name: "--value", Given: &o.value, Help: "show the values of properties alone"},
		{Name: "-x, --export", Given: &o.export, Help: "show properties as KEY='VALUE', for a shell"},
		{Name: "--json", Given: &o.json, Help: "show properties as a line of JSON"},
		{Name: "-e, --export-db", Given: &o.all, Help: "show every device"},
		{Name: "--dev DIR", Text: &o.dev, Help: "use DIR for /dev"},
		{Name: "--sys DIR", Text: &o.sys, Help: "use DIR for /sys"},
		{Name: "-h, --help", Given: &o.help},
	}
}

// usage is the help text, with the options from the table that parse reads them by.
func usage() string {
	return `usage: devspool info [OPTIONS] DEVICE...
shows the names and properties of devices. A DEVICE is a node or a link below /dev, a
path below /sys, or a devpath.

` + cli.Usage(new(options).table(), false, "  ", 21) + `
What a disk holds is read where the caller may open it. Where devspool serves /dev, the
links are those that the device has; else those that it deserves.
`
}

// parse reads a command line. Errors are of type cli.Error.
func parse(args []string) (o *options, err error) {
	o = &options{query: "all", dev: "/dev", sys: "/sys"}
	o.devices, err = cli.Parse(args, o.table())
	switch {
	case err != nil || o.help:
	case !strings.Contains(queries, " "+o.query+" "):
		err = cli.Error("no such query: " + o.query)
	case o.all:
		// Which stands for every device, as sysfs.FS.Events has it.
		o.devices = []string{""}
	case len(o.devices) == 0:
		err = cli.Error("name a device")
	}
	return o, err
}

// Run is the tool. It looks where open says, given the directories of the command line, and
// returns the exit code.
func Run(args []string, streams Streams, open func(sys, dev string) Lookup) int {
	o, err := parse(args)
	if err != nil {
		_, _ = streams.Err.Write([]byte(cli.Misuse("info", err.Error())))
		return exitUsage
	}
	if o.help {
		_, _ = streams.Out.Write([]byte(usage()))
		return exitDone
	}
	look := open(o.sys, o.dev)
	code, between := exitDone, ""
	// A device that cannot be shown does not keep the others from it.
	for _, name := range o.devices {
		// A change: what a device deserves while it is there.
		events, err := look.Sys.Events(uevent.Change, name, look.Dev)
		if err != nil {
			_, _ = streams.Err.Write([]byte("devspool info: error: " + uevent.Printable(name) + ": " + err.Error() + "\n"))
			code = exitFailed
		}
		for _, e := range events {
			if _, err := streams.Out.Write([]byte(between + o.render(newDevice(&look, e)))); err != nil {
				return exitFailed
			}
			if o.query == "all" && !o.json {
				between = "\n"
			}
		}
	}
	return code
}
