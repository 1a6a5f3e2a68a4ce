package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"devspool/hotplug/uevent"
	"devspool/initramfs"
	"devspool/initramfs/mkinitramfs/packer/packed"
)

//go:embed usage.txt
var usageText string

// usage is the help text, with the sets from their table.
func usage() string {
	var b strings.Builder
	for _, s := range sets {
		fmt.Fprintf(&b, "%6s%-11s %s\n", "", s.name, s.help)
	}
	return strings.Replace(usageText, "SETS\n", b.String(), 1)
}

// options is what the command line asks for, a field for each option, in the order of the help text.
// What was not given has its default.
type options struct {
	output, compress, appendTo  string
	microcode                   bool
	early                       list
	dryRun, why, quiet, verbose bool
	devspool, arch, source      string
	conf, init                  string
	programs                    list
	root                        string
	files, links, dirs, nodes   list
	release, modulesDir         string
	modules, sets, exclude      list
	allStorage, thisMachine     bool
	sys                         string
	firmwareDirs, modprobeConf  list
	noFirmware                  bool
	index                       string

	time uint32 // of all files, in seconds since 1970
}

// list is an option that may be repeated. One with commas has several values.
type list struct {
	values []string
	commas bool
}

// String is for package flag.
func (l *list) String() string { return strings.Join(l.values, ",") }

// Set adds values.
func (l *list) Set(text string) error {
	if text == "" {
		return errors.New("empty")
	}
	if !l.commas {
		l.values = append(l.values, text)
		return nil
	}
	for v := range strings.SplitSeq(text, ",") {
		if v = strings.TrimSpace(v); v != "" {
			l.values = append(l.values, v)
		}
	}
	return nil
}

// errUsage is the error for a wrong command line.
var errUsage = errors.New("wrong usage")

// wrongUsage marks an error as one of the command line, for the exit code.
func wrongUsage(err error) error { return fmt.Errorf("%w: %w", errUsage, err) }

// parse reads the command line and the environment. The error is flag.ErrHelp for --help.
func parse(args []string, getenv func(string) string) (*options, error) {
	// Names hold no commas. Paths may, so an option with a path takes one value each time.
	o := &options{programs: list{commas: true}, modules: list{commas: true}, sets: list{commas: true}, exclude: list{commas: true}}
	f := flag.NewFlagSet("mkinitramfs", flag.ContinueOnError)
	// Package flag would print its own messages and help; here both are this program's.
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	text := func(p *string, value string, names ...string) {
		for _, n := range names {
			f.StringVar(p, n, value, "")
		}
	}
	is := func(p *bool, names ...string) {
		for _, n := range names {
			f.BoolVar(p, n, false, "")
		}
	}
	text(&o.output, "", "o", "output")
	text(&o.compress, "zstd", "compress")
	text(&o.appendTo, "", "append")
	is(&o.microcode, "microcode")
	is(&o.dryRun, "n", "dry-run")
	is(&o.why, "why")
	is(&o.quiet, "q", "quiet")
	is(&o.verbose, "v", "verbose")
	text(&o.devspool, "", "devspool")
	text(&o.arch, "", "arch")
	text(&o.source, "", "source")
	text(&o.conf, "", "conf")
	text(&o.init, "", "init")
	text(&o.root, "/", "root")
	text(&o.release, "", "kernel")
	text(&o.modulesDir, "", "modules-dir")
	is(&o.allStorage, "all-storage")
	is(&o.thisMachine, "for-this-machine")
	text(&o.sys, "/sys", "sys")
	is(&o.noFirmware, "no-firmware")
	text(&o.index, "auto", "index")
	// The order in which options are known does not matter.
	for name, l := range map[string]*list{"early": &o.early, "program": &o.programs, "file": &o.files, "link": &o.links,
		"dir": &o.dirs, "node": &o.nodes, "modules": &o.modules, "set": &o.sets, "exclude": &o.exclude,
		"firmware-dir": &o.firmwareDirs, "modprobe-conf": &o.modprobeConf} {
		f.Var(l, name, "")
	}
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is no option: an image is named by -o", f.Arg(0))
	}
	return o, o.check(getenv)
}

// check finds what the flags cannot.
func (o *options) check(getenv func(string) string) error {
	if o.output == "" && !o.dryRun {
		return errors.New("no image to write: name one by -o")
	}
	if !slices.Contains(packed.Formats, o.compress) {
		return fmt.Errorf("--compress %s: it is one of %s", o.compress, strings.Join(packed.Formats, ", "))
	}
	if !slices.Contains([]string{"auto", "bin", "text"}, o.index) {
		return fmt.Errorf("--index %s: it is auto, bin or text", o.index)
	}
	if o.arch != "" && !slices.Contains(arches, o.arch) {
		return fmt.Errorf("--arch %s: it is one of %s", o.arch, strings.Join(arches, ", "))
	}
	// Of two options that contradict each other neither is passed over silently.
	if o.arch != "" && o.devspool != "" {
		return errors.New("--arch is for a binary that is built, and --devspool gives one")
	}
	for _, name := range o.sets.values {
		if setOf(name) == nil {
			return fmt.Errorf("--set %s: no set has this name; --help lists them", name)
		}
	}
	// By reproducible-builds.org. Without it all times are 0, so that equal contents give equal images.
	// A time in an archive has 32 bits.
	if epoch := getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		n, err := strconv.ParseUint(epoch, 10, 32)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH=%s: it is a number of seconds since 1970, below 4294967296", epoch)
		}
		o.time = uint32(n)
	}
	return nil
}

// wantsModules reports whether any option asks for kernel modules.
func (o *options) wantsModules() bool {
	return len(o.modules.values)+len(o.sets.values) > 0 || o.allStorage || o.thisMachine
}

// inImage returns a path as an entry has it. In an option it may begin with a slash.
func inImage(path string) string { return strings.Trim(path, "/") }

// parseMode reads permission bits, in octal.
func parseMode(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 8, 32)
	// The nine bits of permissions, with set-user-ID, set-group-ID and sticky.
	if err != nil || n > 0o7777 {
		return 0, fmt.Errorf("%s: %w", text, initramfs.ErrMode)
	}
	return uint32(n), nil
}

// parseNode reads PATH:b|c:MAJOR:MINOR[:MODE].
func parseNode(text string) (initramfs.Node, error) {
	part := strings.Split(text, ":")
	n := initramfs.Node{Mode: 0o600}
	// A path with a colon cannot be given.
	if len(part) < 4 || len(part) > 5 || part[1] != "b" && part[1] != "c" {
		return n, fmt.Errorf("--node %s: it is PATH:b|c:MAJOR:MINOR[:MODE]", text)
	}
	major, err := strconv.ParseUint(part[2], 10, 32)
	minor, err2 := strconv.ParseUint(part[3], 10, 32)
	if err = errors.Join(err, err2); err != nil {
		return n, fmt.Errorf("--node %s: %w", text, initramfs.ErrNumbers)
	}
	n.Path, n.Dev = inImage(part[0]), uevent.Dev{Block: part[1] == "b", Major: uint32(major), Minor: uint32(minor)}
	if len(part) == 5 {
		if n.Mode, err = parseMode(part[4]); err != nil {
			return n, fmt.Errorf("--node %s: %w", text, err)
		}
	}
	return n, nil
}

// cut splits an option at its first colon. Neither part may be empty. Form is what the message shows.
func cut(option, text, form string) (before, after string, err error) {
	// A host path with a colon cannot be given; the target of a link may have one.
	before, after, ok := strings.Cut(text, ":")
	if !ok || before == "" || after == "" {
		return "", "", fmt.Errorf("--%s %s: it is %s", option, text, form)
	}
	return before, after, nil
}

// readList replaces each @FILE in a list of names by the file's lines. In a file # begins a comment,
// and a line may have several names.
func readList(values []string) (names []string, err error) {
	for _, v := range values {
		file, ok := strings.CutPrefix(v, "@")
		if !ok {
			names = append(names, v)
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--modules: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			line, _, _ = strings.Cut(line, "#")
			names = append(names, strings.Fields(line)...)
		}
	}
	return names, nil
}
