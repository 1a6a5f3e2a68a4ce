package pid1

import (
	"strings"
	"time"

	"devspool/hotplug/control"
	"devspool/hotplug/modules"
)

// settings are what the kernel's command line says. Words that the kernel knows, such as
// root=, mean what they mean to it.
type settings struct {
	root, fstype, flags string
	writable            bool          // rw
	init                string        // "" for the usual ones
	timeout             time.Duration // for the root to come
	rootwait            bool          // without end
	panics              bool          // panic= is there: no shell
	verbose             bool          // say each step
	loopVerbose         bool          // say each event
	onlyFirst           bool          // what the root needs comes first
	breaks              string        // points to stop at, each after a comma
	luks                []volume
}

// volume is a disk to unlock.
type volume struct {
	uuid, name string // of its LUKS header; below /dev/mapper
	key        string // a file; "" for a passphrase
	open       bool   // its tool has run, with or without success
}

// usualTimeout is how long the root may take to come.
const usualTimeout = 30 * time.Second

// parse reads the command line. What stands behind "--" is for the next init.
func (s *settings) parse(line string) {
	s.timeout, s.onlyFirst = usualTimeout, true
	var delay time.Duration
	for line != "" {
		var word string
		// The same quotes as in the kernel (next_arg in lib/cmdline.c): a value may have spaces.
		word, line = modules.Parameter(line)
		key, value, _ := strings.Cut(word, "=")
		// Quotes around the value alone stay in a word, as in root="UUID=X". To the kernel they are no part of it.
		value = strings.Trim(value, `"`)
		switch key {
		case "--":
			line = ""
		case "root":
			s.root = value
			// A person may quote the name alone: root=LABEL="a b".
			if tag, name, is := strings.Cut(value, `="`); is {
				s.root = tag + "=" + name
			}
		case "rootfstype":
			s.fstype = value
			// As for mount(8): the disk says what it is.
			if value == "auto" {
				s.fstype = ""
			}
		case "rootflags":
			s.flags = value
		// The last of several prevails, as for the kernel.
		case "ro", "rw":
			s.writable = key == "rw"
		case "init":
			s.init = value
		// Since Linux 6.8 it may have a value: the longest time.
		case "rootwait":
			wait, err := control.ParseSeconds(value)
			if s.rootwait = err != nil; !s.rootwait {
				s.timeout = wait
			}
		// To the kernel a time to wait in any case. Here it only makes the longest time longer.
		case "rootdelay":
			if wait, err := control.ParseSeconds(value); err == nil {
				delay += wait
			}
		// As for initramfs-tools(7), panic= also takes the shell away.
		case "panic":
			s.panics = true
		case "rd.devspool.timeout":
			if wait, err := control.ParseSeconds(value); err == nil {
				s.timeout = wait
			} else {
				say("rd.devspool.timeout: " + err.Error())
			}
		case "rd.devspool.log":
			oneOf(key, value, "steps info")
			// "steps" is what this process does, "info" also what the loop does.
			s.verbose, s.loopVerbose = value == "info" || value == "steps", value == "info"
		case "rd.devspool.first":
			oneOf(key, value, "yes no")
			s.onlyFirst = value != "no"
		case "rd.devspool.break":
			for _, point := range strings.Fields(strings.ReplaceAll(value, ",", " ")) {
				oneOf(key, point, "start mount switch")
			}
			s.breaks = value
		// The words of dracut and systemd, in their spelling: the disk may be named with "luks-" in
		// front, and is mapped under that name.
		case "rd.luks.uuid":
			s.luks = append(s.luks, volume{uuid: strings.TrimPrefix(value, "luks-"), name: "luks-" + strings.TrimPrefix(value, "luks-")})
		case "rd.luks.name":
			uuid, name, _ := strings.Cut(value, "=")
			s.luks = append(s.luks, volume{uuid: uuid, name: name})
		case "rd.luks.key":
			// One key is for all disks that were named before it.
			for i := range s.luks {
				s.luks[i].key = value
			}
		default:
			if name, ours := strings.CutPrefix(key, "rd.devspool."); ours {
				oneOf("rd.devspool", name, "timeout log break first")
			}
		}
	}
	s.timeout += delay
}

// oneOf says so where a word of the command line is none of those that are known, which have blanks between.
// The boot goes on: a slip in what only helps a person must not end it.
func oneOf(key, value, known string) {
	if !strings.Contains(" "+known+" ", " "+value+" ") {
		say(key + ": \"" + value + "\" is none of: " + known)
	}
}

// first returns what the loop is to have before all else: the disks to unlock, or the root.
// It is "" where rd.devspool.first=no, or neither a disk nor a root is named: nothing is held back then.
func (s *settings) first() (refs string) {
	if !s.onlyFirst {
		return ""
	}
	for i := range s.luks {
		refs += " UUID=" + s.luks[i].uuid
	}
	if refs == "" {
		// A blank would part it from the next one.
		refs = strings.ReplaceAll(s.ref(), " ", `\x20`)
	}
	return refs
}
