// Package modprobe is the tool modprobe(8): its options, what it prints, and its exit
// codes as those of kmod. What it does with modules is package modules' work.
//
// It never runs a shell: install and remove lines of modprobe.d are left to the system's
// own modprobe program, which takes over, or are refused.
package modprobe

import (
	"errors"
	"io"
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

// options are the letter of each option and its long forms, each between blanks. Those with
// a = take a value. Options that mean the same for us share a letter; the digit 1 stands for
// one that has no letter. (A map would be larger in the binary.)
const options = " aall rremove Rresolve-alias Dshow-depends cshowconfig cshow-config ndry-run nshow vverbose qquiet ssyslog" +
	" buse-blacklist iignore-install iignore-remove 1first-time fforce fforce-modversion fforce-vermagic hhelp Vversion" +
	" Cconfig= ddirname= Sset-version= "

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
)

// Streams are what the tool writes to.
type Streams struct{ Out, Err io.Writer }

// tool is one run. What kmod prints to standard output or error, in which words and with
// which exit code, scripts depend on: so the texts are kmod's.
type tool struct {
	given   [128]bool      // options, by their letter
	source  modules.Source // where modules are, by the options
	words   []string       // what is no option: names, and parameters behind the first
	streams Streams
	logger  *log.Logger     // syslog, with -s; or nil
	tree    *modules.Tree   // nil until the options were read
	loader  *modules.Loader // nil with -c, which loads nothing
}

// Run does what modprobe does with args, which are without the program's name, and returns the exit
// code. It may replace this process by the system's modprobe program.
func Run(args, environ []string, streams Streams) int {
	t := &tool{streams: streams}
	// Options of the environment come first, so that those of the command line prevail.
	if err := t.parse(append(strings.Fields(sys.Getenv(environ, "MODPROBE_OPTIONS")), args...)); err != nil {
		return t.fail("ERROR", err.Error()+"; --help shows the options")
	}
	switch {
	case t.given['h']:
		return t.print(usage)
	case t.given['V']:
		return t.print("modprobe of devspool\n")
	case len(t.words) == 0 && !t.given['c']:
		return t.fail("ERROR", "missing parameters. See -h.")
	}
	if t.given['s'] {
		t.logger = log.Syslog()
	}
	if t.source.Config == nil {
		t.source.Config = strings.Fields(modules.ConfigDirs) // --dirname is for the modules alone
	}
	// Parameters and a blacklist may stand on the kernel's command line.
	t.source.Cmdline, _ = sys.ReadFile("/proc/cmdline")
	t.tree, _ = modules.OpenTree(t.source) // where there is no modules.dep nothing is found, and that is said
	if t.tree == nil {
		return t.fail("FATAL", "no release of the kernel")
	}
	for _, problem := range t.tree.Problems() {
		t.fail("WARNING", problem)
	}
	if t.given['c'] {
		return t.showConfig()
	}
	t.loader = modules.NewLoader(t.tree, modules.Options{Force: t.given['f']}) // what fails is said by insert
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

// parse reads the command line. Options may stand behind names too, up to a "--".
func (t *tool) parse(args []string) error {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			t.words = append(t.words, args...)
			return nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			t.words = append(t.words, arg)
			continue
		}
		for rest := arg[1:]; rest != ""; {
			letter, value, takes := option(rest)
			// An unknown option, or one without a value that has been given one by "=".
			if letter == 0 || !takes && value != "" && arg[1] == '-' {
				return errors.New("unrecognized option '" + arg + "'")
			}
			t.given[letter] = true
			rest = value
			// Of letters that stand together each is an option: -rv is -r -v.
			if !takes {
				continue
			}
			// The value may be the next word, whatever it is.
			if value == "" && len(args) > 0 {
				value, args = args[0], args[1:]
			}
			if value == "" {
				return errors.New("option '" + arg + "' needs a value")
			}
			t.take(letter, value)
			break
		}
	}
	return nil
}

// option reads one option from a word without its first dash: "-LONG[=VALUE]", or a letter
// and what follows it. The letter is 0 for an unknown one.
func option(word string) (letter byte, rest string, takes bool) {
	long, isLong := strings.CutPrefix(word, "-")
	if isLong {
		long, rest, _ = strings.Cut(long, "=")
	} else {
		rest = word[1:]
	}
	for _, o := range strings.Fields(options) {
		name := strings.TrimSuffix(o[1:], "=")
		if isLong && name == long || !isLong && o[0] == word[0] && o[0] != '1' {
			return o[0], rest, name != o[1:]
		}
	}
	return 0, "", false
}

// take takes the value of an option.
func (t *tool) take(letter byte, value string) {
	switch letter {
	case 'C':
		t.source.Config = append(t.source.Config, value)
	case 'd':
		t.source.Root = strings.TrimRight(value, "/")
	case 'S':
		t.source.Release = value
	}
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
	case t.given['q']:
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
	parameters := ""
	// Where one module is loaded, or with -D only shown, it may have parameters. Elsewhere each word is a
	// module.
	if !t.given['a'] && !t.given['r'] && !t.given['R'] {
		for _, w := range t.words[1:] {
			parameters += " " + quote(w)
		}
		t.words = t.words[:1]
	}
	var mode modules.Mode
	if t.given['b'] {
		mode = modules.Blacklist
	}
	if t.given['i'] {
		mode |= modules.IgnoreInstall
	}
	var plans [][]modules.Step
	for _, name := range t.words {
		found := t.tree.Lookup(name)
		if len(found) == 0 {
			level := "FATAL"
			// With -a a name that is missing does not keep the others from being loaded.
			if t.given['a'] {
				level = "WARNING"
			}
			code = t.fail(level, "Module "+name+" not found in directory "+t.tree.Dir())
		}
		if t.given['R'] {
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
	if t.given['r'] {
		act = t.remove
	}
	// All or nothing: the program does the whole command line anew, and must not find half of it
	// done.
	for i := range plans {
		if !t.given['n'] && !t.given['D'] && t.needsProgram(plans[i]) {
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
		if t.given['r'] {
			if !t.given['i'] && t.tree.RemoveCommand(s.Name) != "" {
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
		if !t.show(plans[i]) {
			code = exitFailed
			errs <- nil
		} else if t.given['n'] || t.given['D'] {
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

// show prints what is about to be done, and reports whether it may be: with --first-time a module
// that is loaded already is a failure.
func (t *tool) show(steps []modules.Step) bool {
	for i := range steps {
		s := &steps[i]
		live := !t.given['D'] && modules.IsLive(s.Name)
		if live && s.Target && t.given['1'] {
			t.fail("ERROR", "could not insert '"+s.Name+"': Module already in kernel")
			return false
		}
		text := ""
		switch {
		case live || !t.given['D'] && !t.given['v']:
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
		// no failure; only the target's is.
		for i := len(steps) - 1; i >= 0; i-- {
			if why := t.removeStep(&steps[i]); why != "" && steps[i].Target {
				code = t.fail("FATAL", "Module "+steps[i].Name+" "+why)
			}
		}
	}
	return code
}

// removeStep removes a module, and returns why it cannot be removed, or "". One that is not loaded is
// no failure without --first-time. O_NONBLOCK: the kernel never waits for the users of a module.
func (t *tool) removeStep(s *modules.Step) (why string) {
	uses, _ := sys.ReadAttribute("/sys/module/" + s.Name + "/refcnt")
	switch {
	case s.Builtin:
		return "is builtin."
	case !modules.IsLive(s.Name) && t.given['1']:
		return "is not in kernel."
	case !modules.IsLive(s.Name):
		return ""
	// The kernel would refuse it as well; this says so before anything is printed or done.
	case uses != "0\n" && !t.given['f']:
		return "is in use."
	}
	if t.given['v'] {
		t.print("rmmod " + s.Name + "\n")
	}
	if t.given['n'] {
		return ""
	}
	flags := unix.O_NONBLOCK
	// O_TRUNC is what delete_module(2) calls to remove by force.
	if t.given['f'] {
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
