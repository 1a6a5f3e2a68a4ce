package modules

import (
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// The flags of finit_module(2): MODULE_INIT_* in include/uapi/linux/module.h.
const (
	ignoreModversions = 1
	ignoreVermagic    = 2
	compressedFile    = 4 // since Linux 5.17
)

// reason is an error that no errno says.
type reason string

func (r reason) Error() string { return string(r) }

const (
	// For the log: a person without kmod has to see what is to be done.
	errCompressed = reason("compressed in a way that this kernel cannot read, and there is no modprobe program to do it; store modules uncompressed")
	errInstall    = reason("modprobe.d has an install command for it, which is not run here, and there is no modprobe program to do it")
	errRefused    = reason("modprobe.d says that it is not to be loaded (install ... false)")
	errNoFile     = reason("not in modules.dep, and not part of the kernel")
	errBlocked    = reason("what it needs could not be loaded")
	errParameters = reason("a symbol or a parameter that is not known; the kernel's log says which")
)

// insert gives a module to the kernel. One that is there already is a success.
func (l *Loader) insert(s *Step) error {
	if why := l.refusal(s); why != nil {
		return l.program(s, why)
	}
	// refusal lets two kinds of install command pass: those that stand for a failure, and those
	// that do nothing and succeed.
	switch {
	case s.Install == "":
	case isFalse(s.Install):
		return errRefused
	default:
		return nil
	}
	if s.Path == "" {
		return errNoFile
	}
	flags := l.flags
	if compression(s.Path) != "" {
		flags |= compressedFile
	}
	// finit_module reads the file in the kernel, so that no module ever passes through our memory.
	fd, err := sys.OpenRegular(s.Path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = sys.RetryEINTR(func() error { return l.finit(fd, s.Options, flags) })
	// EEXIST: another request or process loaded it between the look at /sys and this call, which
	// waits in the kernel until that one is initialized. ENOENT cannot be the file's, which is
	// open: the kernel returns it for unknown symbols and parameters.
	switch err {
	case unix.EEXIST:
		return nil
	case unix.ENOENT:
		return errParameters
	}
	return err
}

// isTrue reports whether a command does nothing and succeeds. Such an install line is the usual
// way to say that a module is not to be loaded, and needs no program.
func isTrue(command string) bool {
	name, _ := word(command)
	return fileKey(name) == "true" || name == ":"
}

// isFalse is isTrue for a command that does nothing and fails.
func isFalse(command string) bool {
	name, _ := word(command)
	return fileKey(name) == "false"
}

// NeedsProgram reports whether a step is for the modprobe program: an install command,
// or a compressed module that the kernel cannot read. Whether there is such a program it does not say.
func (l *Loader) NeedsProgram(s *Step) bool { return l.refusal(s) != nil }

// refusal returns why a step is for the modprobe program, or nil.
func (l *Loader) refusal(s *Step) error {
	if s.Install != "" {
		if isTrue(s.Install) || isFalse(s.Install) {
			return nil
		}
		return errInstall
	}
	// The kernel knows one algorithm, chosen when it was built. Where it decompresses none there
	// is no such file.
	if algorithm := compression(s.Path); algorithm != "" {
		if known, _ := sys.ReadAttribute(l.sys + "/module/compression"); strings.TrimSpace(known) != algorithm {
			return errCompressed
		}
	}
	return nil
}

// compression returns how a module's file is compressed, by the kernel's word for it, or "".
func compression(path string) string {
	switch path[strings.LastIndexByte(path, '.')+1:] {
	case "gz":
		return "gzip"
	case "xz":
		return "xz"
	case "zst":
		return "zstd"
	}
	return ""
}

// program has the modprobe program load a module. Where there is none the error is why.
func (l *Loader) program(s *Step, why error) error {
	if l.run == nil {
		return why
	}
	args := []string{"-b", "-q", "--", s.Name}
	if s.Install == "" && s.Options != "" {
		for rest := s.Options; rest != ""; {
			var word string
			word, rest = Parameter(rest)
			args = append(args, word)
		}
	}
	return l.run(args)
}

// IsLive reports whether the running kernel has a module and its initialization is over.
func IsLive(name string) bool { return isLive("/sys", name) }

// isLive is IsLive for a sysfs that may be mounted elsewhere. While a module's initialization runs its state
// is "coming"; what is part of the kernel has no such file, and does not count as live.
func isLive(sysfs, name string) bool {
	state, err := sys.ReadAttribute(sysfs + "/module/" + name + "/initstate")
	return err == nil && state == "live\n"
}
