// Package modprobe is the tool modprobe(8): its options, what it prints, and its exit
// codes as those of kmod. What it does with modules is package modules' work.
//
// It never runs a shell: install and remove lines of modprobe.d are left to another
// modprobe program, or refused.
package modprobe

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/modules"
	"devspool/hotplug/sys"
)

const usage = `modprobe loads kernel modules, and removes them

usage:
  modprobe [options] NAME [PARAMETER=VALUE...]
  modprobe [options] -a NAME...     load all of these
  modprobe [options] -r NAME...     remove them, and what they needed alone
  modprobe [options] -R NAME...     print the modules that have this alias
  modprobe [options] -D NAME...     print what would be loaded, whatever is loaded
  modprobe [options] -c             print the configuration and the indexes

options:
  -n, --dry-run          do nothing; with -v print what would be done
  -v, --verbose          print what is done
  -q, --quiet            no messages
  -s, --syslog           messages go to syslog
  -b, --use-blacklist    the blacklist holds for names too
  -i, --ignore-install   load NAME itself where modprobe.d has an install line
      --first-time       fail where NAME is loaded already, or with -r is not
  -f, --force            versions may differ; also --force-modversion, --force-vermagic
  -C, --config=FILE      use FILE or the directory FILE for modprobe.d
  -d, --dirname=DIR      use DIR/lib/modules
  -S, --set-version=VER  use the modules of the kernel VER
  -V, --version          -h, --help

exit codes: 0 done, 1 not
`

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
)

// Streams are what the tool writes to.
type Streams struct{ Out, Err io.Writer }

// tool is one run.
type tool struct {
	all, remove, resolve, depends, config, help, version         bool
	dry, verbose, quiet, syslog, blacklist, ignore, first, force bool
	source                                                       modules.Source

	words   []string
	streams Streams
	environ []string
	logger  *log.Logger
	tree    *modules.Tree
}

// Run does what modprobe does with args, which are without the program's name.
func Run(args, environ []string, streams Streams) int {
	t := &tool{streams: streams, environ: environ}
	args = append(strings.Fields(sys.Getenv(environ, "MODPROBE_OPTIONS")), args...)
	if err := t.parse(args); err != nil {
		t.complain("ERROR", err.Error()+"; the options are shown by --help")
		return exitFailed
	}
	switch {
	case t.help:
		return t.print(usage)
	case t.version:
		return t.print("modprobe of devspool\n")
	case len(t.words) == 0 && !t.config:
		t.complain("ERROR", "missing parameters. See -h.")
		return exitFailed
	}
	if !t.open() {
		return exitFailed
	}
	switch {
	case t.config:
		return t.showConfig()
	case t.remove:
		return t.each(t.removeModule)
	case t.resolve:
		return t.each(t.showNames)
	}
	return t.load()
}

// flags are the options that take no value.
func (t *tool) flag(name string) *bool {
	switch name {
	case "a", "all":
		return &t.all
	case "r", "remove":
		return &t.remove
	case "R", "resolve-alias":
		return &t.resolve
	case "D", "show-depends":
		return &t.depends
	case "c", "showconfig", "show-config":
		return &t.config
	case "n", "dry-run", "show":
		return &t.dry
	case "v", "verbose":
		return &t.verbose
	case "q", "quiet":
		return &t.quiet
	case "s", "syslog":
		return &t.syslog
	case "b", "use-blacklist":
		return &t.blacklist
	case "i", "ignore-install", "ignore-remove":
		return &t.ignore
	case "f", "force", "force-modversion", "force-vermagic":
		return &t.force
	case "first-time":
		return &t.first
	case "h", "help":
		return &t.help
	case "V", "version":
		return &t.version
	}
	return nil
}

// value takes the value of an option that has one, and reports whether there is such.
func (t *tool) value(name, value string) bool {
	switch name {
	case "C", "config":
		t.source.Config = append(t.source.Config, value)
	case "d", "dirname":
		t.source.Root = strings.TrimRight(value, "/")
	case "S", "set-version":
		t.source.Release = value
	default:
		return false
	}
	return true
}

// parse reads the command line. Options may stand behind names too, up to a "--".
func (t *tool) parse(args []string) error {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		var err error
		switch long, isLong := strings.CutPrefix(arg, "--"); {
		case isLong && long == "":
			t.words = append(t.words, args...)
			return nil
		case isLong:
			args, err = t.long(long, args)
		case len(arg) > 1 && arg[0] == '-':
			args, err = t.short(arg[1:], args)
		default:
			t.words = append(t.words, arg)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tool) long(arg string, args []string) (rest []string, err error) {
	name, value, given := strings.Cut(arg, "=")
	if f := t.flag(name); f != nil && len(name) > 1 {
		if given {
			return nil, errors.New("option '--" + name + "' takes no value")
		}
		*f = true
		return args, nil
	}
	if len(name) < 2 || name != "config" && name != "dirname" && name != "set-version" {
		return nil, errors.New("unrecognized option '--" + name + "'")
	}
	if !given {
		if len(args) == 0 {
			return nil, errors.New("option '--" + name + "' needs a value")
		}
		value, args = args[0], args[1:]
	}
	t.value(name, value)
	return args, nil
}

// short reads a cluster of letters. The value of an option is what follows its letter,
// or else the next word.
func (t *tool) short(letters string, args []string) (rest []string, err error) {
	for i := range len(letters) {
		letter := letters[i : i+1]
		if f := t.flag(letter); f != nil {
			*f = true
			continue
		}
		if letter != "C" && letter != "d" && letter != "S" {
			return nil, errors.New("invalid option -- '" + letter + "'")
		}
		value := letters[i+1:]
		if value == "" {
			if len(args) == 0 {
				return nil, errors.New("option -" + letter + " needs a value")
			}
			value, args = args[0], args[1:]
		}
		t.value(letter, value)
		return args, nil
	}
	return args, nil
}

// open opens the modules' tree.
func (t *tool) open() bool {
	t.logger = log.Stderr()
	if t.syslog {
		t.logger = log.Syslog()
	}
	if t.source.Config == nil {
		t.source.Config = modules.ConfigDirs() // --dirname is for the modules alone
	}
	t.source.Cmdline, _ = sys.ReadKernelFile("/proc/cmdline")
	tree, err := modules.OpenTree(t.source)
	t.tree = tree
	if tree == nil {
		t.complain("FATAL", err.Error())
		return false
	}
	for _, problem := range tree.Problems() {
		t.complain("WARNING", problem)
	}
	return true // without modules.dep nothing is found, and that is said
}

func (t *tool) print(text string) int {
	if _, err := io.WriteString(t.streams.Out, text); err != nil {
		return exitFailed
	}
	return exitDone
}

// complain writes a message, where such are wanted.
func (t *tool) complain(level, text string) {
	switch {
	case t.quiet:
	case t.syslog:
		t.logger.Print(log.Err, "modprobe: "+text)
	default:
		io.WriteString(t.streams.Err, "modprobe: "+level+": "+text+"\n")
	}
}

func (t *tool) notFound(name string) {
	level := "FATAL"
	if t.all {
		level = "WARNING"
	}
	t.complain(level, "Module "+name+" not found in directory "+t.tree.Dir())
}

// each calls f for each word, and fails where f does for one.
func (t *tool) each(f func(name string) bool) int {
	code := exitDone
	for _, name := range t.words {
		if !f(name) {
			code = exitFailed
		}
	}
	return code
}

func (t *tool) showNames(name string) bool {
	found := t.tree.Lookup(name)
	if len(found) == 0 {
		t.notFound(name)
	}
	for _, target := range found {
		t.print(target.Name + "\n")
	}
	return len(found) > 0
}

// mode is how the configuration is to be read.
func (t *tool) mode() (m modules.Mode) {
	if t.blacklist {
		m |= modules.Blacklist
	}
	if t.ignore {
		m |= modules.IgnoreInstall
	}
	return m
}

// load loads what the words name: all of them, or the first with parameters.
func (t *tool) load() int {
	names, parameters := t.words, ""
	if !t.all && !t.depends {
		names, parameters = t.words[:1], quote(t.words[1:])
	}
	quiet := log.Stderr() // what failed is said below, in modprobe's words
	quiet.SetLevel(0)
	loader := modules.NewLoader(t.tree, modules.Options{Log: quiet, Force: t.force, Program: modules.Program(t.environ)})
	errs := make(chan error, len(names))
	code, running := exitDone, 0
	for _, name := range names {
		steps, err := t.tree.Resolve(name, t.mode())
		if err != nil {
			t.notFound(name)
			code = exitFailed
			continue
		}
		addParameters(steps, parameters)
		if !t.show(steps) {
			code = exitFailed
			continue
		}
		if !t.dry && !t.depends {
			running++
			loader.Submit(steps, func(err error) { errs <- err })
		}
	}
	for range running {
		if err := <-errs; err != nil {
			t.complain("ERROR", "could not insert "+err.Error())
			code = exitFailed
		}
	}
	return code
}

// addParameters gives the modules that were asked for what the command line says.
func addParameters(steps []modules.Step, parameters string) {
	for i := range steps {
		if steps[i].Target && parameters != "" {
			steps[i].Options = strings.TrimLeft(steps[i].Options+" "+parameters, " ")
		}
	}
}

// quote makes one text of parameters: a value with blanks has lost its quotes to the shell.
func quote(words []string) string {
	words = slices.Clone(words)
	for i, w := range words {
		if key, value, _ := strings.Cut(w, "="); strings.ContainsAny(value, " \t") && !strings.HasPrefix(value, `"`) {
			words[i] = key + `="` + value + `"`
		}
	}
	return strings.Join(words, " ")
}

// show prints what is about to be done, and reports whether it may be.
func (t *tool) show(steps []modules.Step) bool {
	for _, s := range steps {
		live := !t.depends && modules.IsLive(s.Name)
		if live && s.Target && t.first {
			t.complain("ERROR", "could not insert '"+s.Name+"': Module already in kernel")
			return false
		}
		if live || !t.depends && !t.verbose {
			continue
		}
		switch {
		case s.Install != "":
			t.print("install " + s.Install + " " + s.Options + "\n")
		case s.Path != "":
			t.print("insmod " + s.Path + " " + s.Options + "\n")
		case s.Builtin:
			t.print("builtin " + s.Name + "\n")
		}
	}
	return true
}

// removeModule removes the modules of a name or an alias, and then what they needed and
// nothing else does.
func (t *tool) removeModule(name string) bool {
	steps, err := t.tree.Resolve(name, t.mode())
	if err != nil {
		t.notFound(name)
		return false
	}
	ok := true
	for _, s := range slices.Backward(steps) {
		if err := t.removeStep(&s); err != nil && s.Target {
			t.complain("FATAL", err.Error())
			ok = false
		}
	}
	return ok
}

func (t *tool) removeStep(s *modules.Step) error {
	command := t.tree.RemoveCommand(s.Name)
	switch {
	case command != "" && !t.ignore:
		if t.verbose {
			t.print("remove " + command + "\n")
		}
		if t.dry {
			return nil
		}
		if run := modules.Program(t.environ); run != nil {
			return run([]string{"-r", "--", s.Name})
		}
		return errors.New("Module " + s.Name + ": modprobe.d has a remove command for it, which is not run here; -i removes the module itself")
	case s.Builtin:
		return errors.New("Module " + s.Name + " is builtin.")
	case !modules.IsLive(s.Name):
		if t.first {
			return errors.New("Module " + s.Name + " is not in kernel.")
		}
		return nil
	case inUse(s.Name):
		return errors.New("Module " + s.Name + " is in use.")
	}
	if t.verbose {
		t.print("rmmod " + s.Name + "\n")
	}
	if t.dry {
		return nil
	}
	flags := unix.O_NONBLOCK
	if t.force {
		flags |= unix.O_TRUNC
	}
	if err := unix.DeleteModule(s.Name, flags); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "delete_module", Path: s.Name, Err: err}
	}
	return nil
}

func inUse(name string) bool {
	count, err := sys.ReadAttribute("/sys/module/" + name + "/refcnt")
	return err == nil && count != "0\n"
}

// showConfig prints the configuration as modprobe.d would have it, and the indexes as
// aliases.
func (t *tool) showConfig() int {
	code := exitDone
	t.tree.Config(func(line string) {
		if t.print(line+"\n") != exitDone {
			code = exitFailed
		}
	})
	return code
}
