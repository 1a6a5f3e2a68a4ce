// Package modprobe is the tool modprobe(8): its options, what it prints, and its exit
// codes as those of kmod. What it does with modules is package modules' work.
//
// It never runs a shell: install and remove lines of modprobe.d are left to the system's
// own modprobe program, which takes over, or are refused.
package modprobe

import (
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/cli"
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
  modprobe [options] -D NAME [PARAMETER=VALUE...]
                                    print what would be loaded, whatever is loaded
  modprobe [options] -c             print the configuration and the indexes

options:
  -n, --dry-run          do nothing; with -v print what would be done
  -v, --verbose          print what is done
  -q, --quiet            no messages
  -s, --syslog           messages go to syslog
  -b, --use-blacklist    the blacklist holds for names too
  -i, --ignore-install   load NAME itself where modprobe.d has an install line
      --first-time       fail where NAME is loaded already, or with -r is not
  -f, --force            versions may differ
  -C, --config=FILE      use FILE or the directory FILE for modprobe.d
  -d, --dirname=DIR      use DIR/lib/modules
  -S, --set-version=VER  use the modules of the kernel VER
  -V, --version          -h, --help

exit codes: 0 done, 1 not
`

// options is the table of options for Getopt. Those that mean the same for us share a letter; first-time
// has none.
const options = "a:all r:remove R:resolve-alias D:show-depends c:showconfig c:show-config n:dry-run n:show v:verbose q:quiet s:syslog " +
	"b:use-blacklist i:ignore-install i:ignore-remove 1:first-time f:force f:force-modversion f:force-vermagic h:help V:version " +
	"C:config= d:dirname= S:set-version="

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
)

// Streams are what the tool writes to.
type Streams struct{ Out, Err io.Writer }

// tool is one run. What kmod prints to standard output or error, in which words and with
// which exit code, scripts depend on: so the texts are kmod's, but for
// what is wrong with an option.
type tool struct {
	_       sys.NotComparable
	given   *cli.Given // its operands are names, or a name and parameters
	streams Streams
	logger  *log.Logger     // syslog, with -s; or nil
	tree    *modules.Tree   // nil until the options were read
	loader  *modules.Loader // nil with -c, which loads nothing
}

// Run does what modprobe does with args, which are without the program's name, and returns the exit
// code. It may replace this process by the system's modprobe program.
func Run(args, environ []string, streams Streams) int {
	// Options of the environment come first, so that those of the command line prevail.
	given, err := cli.Getopt(append(strings.Fields(sys.Getenv(environ, "MODPROBE_OPTIONS")), args...), options)
	t := &tool{streams: streams, given: given}
	switch {
	case t.given.Has('h'):
		return t.print(usage)
	case t.given.Has('V'):
		return t.print("modprobe of devspool\n")
	case err != nil:
		return t.fail("ERROR", err.Error()+"; --help shows the options")
	case len(t.given.Operands) == 0 && !t.given.Has('c'):
		return t.fail("ERROR", "missing parameters. See -h.")
	}
	if t.given.Has('s') {
		t.logger = log.Syslog()
	}
	// --dirname is for the modules alone.
	source := modules.Source{Root: strings.TrimRight(given.Last('d', ""), "/"), Release: given.Last('S', ""), Config: given.All('C')}
	if source.Config == nil {
		source.Config = strings.Fields(modules.ConfigDirs)
	}
	// Parameters and a blacklist may stand on the kernel's command line.
	source.Cmdline, _ = sys.ReadFile("/proc/cmdline")
	t.tree, _ = modules.OpenTree(source) // where there is no modules.dep nothing is found, and that is said
	if t.tree == nil {
		return t.fail("FATAL", "no release of the kernel")
	}
	for _, problem := range t.tree.Problems() {
		t.fail("WARNING", problem)
	}
	if t.given.Has('c') {
		return t.showConfig()
	}
	t.loader = modules.NewLoader(t.tree, modules.Options{Force: t.given.Has('f')}) // what fails is said by insert
	code := t.run()
	if code == exitProgram {
		code = t.become(args, environ)
	}
	return code
}

// exitProgram says that the modprobe program is to do it. Nothing is done then. It is run's alone: become
// puts a process or exitFailed in its place.
const exitProgram = -1

// marker is a variable in the environment of the modprobe program. Where it is set that
// is another copy of ours, which would call itself without end.
const marker = "DEVSPOOL_MODPROBE"

// become starts the system's modprobe program in place of this one, with the same command line. It
// returns, with a message and the exit code, only where there is none.
func (t *tool) become(args, environ []string) int {
	program := modules.FindProgram()
	if program != "" && sys.Getenv(environ, marker) == "" {
		// It returns only where it fails.
		_ = unix.Exec(program, append([]string{"modprobe"}, args...), append([]string{marker + "=1"}, environ...))
	}
	return t.fail("FATAL", "an install or remove command of modprobe.d, or a module that is compressed in a way "+
		"unknown to this kernel, is for another modprobe program, and there is none; -i ignores such commands")
}

// print writes to standard output, and returns the exit code.
func (t *tool) print(text string) int {
	if _, err := io.WriteString(t.streams.Out, text); err != nil {
		return exitFailed
	}
	return exitDone
}

// fail writes a message, where such are wanted, and returns the exit code. A warning's is for the caller to
// drop.
func (t *tool) fail(level, text string) int {
	switch {
	case t.given.Has('q'):
	case t.logger != nil:
		t.logger.Print(log.Err, "modprobe: "+text)
	default:
		_, _ = io.WriteString(t.streams.Err, "modprobe: "+level+": "+text+"\n")
	}
	return exitFailed
}

// run does what the words name, and returns the exit code, or exitProgram. With parameters that is
// only the first of them.
func (t *tool) run() (code int) {
	names, parameters := t.given.Operands, ""
	// Where one module is loaded, or with -D only shown, it may have parameters. Elsewhere each word is a
	// module.
	if !t.given.Has('a') && !t.given.Has('r') && !t.given.Has('R') {
		for _, w := range names[1:] {
			parameters += " " + quote(w)
		}
		names = names[:1]
	}
	var mode modules.Mode
	if t.given.Has('b') {
		mode = modules.Blacklist
	}
	if t.given.Has('i') {
		mode |= modules.IgnoreInstall
	}
	var plans [][]modules.Step
	for _, name := range names {
		found := t.tree.Lookup(name)
		if len(found) == 0 {
			level := "FATAL"
			// With -a a name that is missing does not keep the others from being loaded.
			if t.given.Has('a') {
				level = "WARNING"
			}
			where := " in directory " + t.tree.Dir()
			if t.given.Has('r') {
				where = "."
			}
			code = t.fail(level, "Module "+name+" not found"+where)
		}
		if t.given.Has('R') {
			for _, target := range found {
				t.print(target.Name + "\n")
			}
			continue
		}
		steps := t.tree.Steps(found, mode)
		for i := range steps {
			if s := &steps[i]; s.Target && parameters != "" {
				s.Options = strings.Trim(s.Options+parameters, " ")
			}
		}
		plans = append(plans, steps)
	}
	// With -R there are no plans, and so nothing is done.
	act := t.insert
	if t.given.Has('r') {
		act = t.remove
	}
	// All or nothing: the program does the whole command line anew, and must not find half of it
	// done.
	for i := range plans {
		if !t.given.Has('n') && !t.given.Has('D') && t.needsProgram(plans[i]) {
			return exitProgram
		}
	}
	return max(code, act(plans))
}

// quote gives a value with blanks the quotes back that the shell took: the kernel splits the text
// of all parameters at blanks.
func quote(word string) string {
	i := strings.IndexByte(word, '=') + 1
	if !strings.ContainsAny(word, " \t") || strings.HasPrefix(word[i:], `"`) {
		return word
	}
	return word[:i] + `"` + word[i:] + `"`
}

// needsProgram reports whether a step that is still to be done is for the modprobe program.
func (t *tool) needsProgram(steps []modules.Step) bool {
	for i := range steps {
		s := &steps[i]
		if t.given.Has('r') {
			if !t.given.Has('i') && t.tree.RemoveCommand(s.Name) != "" {
				return true
			}
		} else if !modules.IsLive(s.Name) && t.loader.NeedsProgram(s) {
			return true
		}
	}
	return false
}

// insert loads all that plans have, and returns the exit code. With -n or -D it only shows them.
func (t *tool) insert(plans [][]modules.Step) (code int) {
	// All plans are under way before the first is waited for, and load in parallel. There is room for each
	// answer, since what Submit calls must not block.
	errs := make(chan error, len(plans))
	for i := range plans {
		done := !t.given.Has('D') && !t.given.Has('1') && isDone(plans[i])
		if !done && !t.show(plans[i]) {
			code = exitFailed
			errs <- nil
		} else if done || t.given.Has('n') || t.given.Has('D') {
			errs <- nil
		} else {
			t.loader.Submit(plans[i], func(err error) { errs <- err })
		}
	}
	for range plans {
		if err := <-errs; err != nil {
			code = t.fail("ERROR", "could not insert "+err.Error())
		}
	}
	return code
}

// isDone reports whether all that was asked for is there already. Then what it only wishes for is not
// loaded either.
func isDone(steps []modules.Step) bool {
	for i := range steps {
		if s := &steps[i]; s.Target && !s.Builtin && !modules.IsLive(s.Name) {
			return false
		}
	}
	return true
}

// show prints what is about to be done, and reports whether it may be: with --first-time a module
// that is loaded already, or part of the kernel, is a failure.
func (t *tool) show(steps []modules.Step) bool {
	for i := range steps {
		s := &steps[i]
		live := !t.given.Has('D') && (s.Builtin || modules.IsLive(s.Name))
		if live && s.Target && t.given.Has('1') {
			t.fail("ERROR", "could not insert '"+s.Name+"': Module already in kernel")
			return false
		}
		text := ""
		switch {
		case live || !t.given.Has('D') && !t.given.Has('v'):
		case s.Install != "":
			text = "install " + s.Install + " " + s.Options + "\n"
		case s.Path != "":
			text = "insmod " + s.Path + " " + s.Options + "\n"
		case s.Builtin:
			text = "builtin " + s.Name + "\n"
		}
		t.print(text)
	}
	return true
}

// remove removes the modules that plans name, and then what they needed and nothing else does.
func (t *tool) remove(plans [][]modules.Step) (code int) {
	for _, steps := range plans {
		// Users go before what they use. That a dependency stays, since another module uses it, is
		// no failure; only the target's is, and then it keeps what it needs and wishes for.
		for i := len(steps) - 1; i >= 0; i-- {
			if why := t.removeStep(&steps[i]); why != "" && steps[i].Target {
				code = t.fail("FATAL", "Module "+steps[i].Name+" "+why)
				break
			}
		}
	}
	return code
}

// removeStep removes a module, and returns why it cannot be removed, or "". One that is not loaded is
// no failure without --first-time. O_NONBLOCK: the kernel never waits for the users of a module.
func (t *tool) removeStep(s *modules.Step) (why string) {
	uses, _ := sys.ReadAttribute("/sys/module/" + s.Name + "/refcnt")
	command := t.tree.RemoveCommand(s.Name)
	switch {
	// It runs whether the module is loaded or not. This shows it; see needsProgram.
	case command != "" && !t.given.Has('i'):
		if t.given.Has('v') {
			t.print("remove " + command + "\n")
		}
		return ""
	case s.Builtin:
		return "is builtin."
	case !modules.IsLive(s.Name) && t.given.Has('1'):
		return "is not in kernel."
	case !modules.IsLive(s.Name):
		return ""
	// The kernel would refuse it as well; this says so before anything is printed or done.
	case uses != "0\n" && !t.given.Has('f'):
		return "is in use."
	}
	if t.given.Has('v') {
		t.print("rmmod " + s.Name + "\n")
	}
	if t.given.Has('n') {
		return ""
	}
	flags := unix.O_NONBLOCK
	// O_TRUNC is what delete_module(2) calls to remove by force.
	if t.given.Has('f') {
		flags |= unix.O_TRUNC
	}
	if err := unix.DeleteModule(s.Name, flags); err != nil && err != unix.ENOENT {
		return "cannot be removed: " + err.Error()
	}
	return ""
}

// showConfig prints the configuration as modprobe.d would have it, and the indexes as
// aliases.
func (t *tool) showConfig() (code int) {
	t.tree.Config(func(directive, key, value string) {
		code = max(code, t.print(strings.Trim(directive+" "+key+" "+value, " ")+"\n"))
	})
	return code
}
