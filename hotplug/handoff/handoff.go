// Package handoff gives a kernel helper's event to the leader, a helper that came
// before and stays for the storm: the side of the process that hands over.
//
// A Go program takes longer to start than an empty C program to start and end.
// So the linker is told to begin a build at Entry (its flag -E) instead of at the
// runtime's own entry: a few instructions for each architecture that call begin,
// and go on to the runtime where begin returns. All that begin calls runs before
// there is a runtime: no stack to grow, no heap, no goroutine. The linker proves
// that the first of these is kept, since every function here is nosplit.
//
// A build without -E works as well. It hands over too, after a whole start.
package handoff

import (
	"strings"
	"syscall"
	"unsafe"
)

// Path is where the leader's FIFO is. A helper that the kernel starts has no
// options, so that its /dev is this one.
const Path = private + "/helper"

// private is the program's own directory. The file in it is locked by the helper
// that starts its runtime to become the leader, until there is the FIFO. Those
// that wait for it take next to no memory, where hundreds of runtimes could take all.
const (
	private  = "/dev/.devspool"
	turnPath = private + "/turn"
)

// Magic begins the header of each record. Behind it come the length of what
// follows, as the machine writes 32 bits, and the environment: strings of the form
// KEY=VALUE, each ended by NUL.
const (
	Magic      = 0x64767370 // "dvsp"
	HeaderSize = 8          // bytes
	MaxRecord  = 4096       // bytes, with the header: what a pipe takes whole or not at all
)

// Length reads a header: how many bytes follow it. Ok is false for what is none.
func Length(header [HeaderSize]byte) (length int, ok bool) {
	var h [2]uint32
	*(*[HeaderSize]byte)(unsafe.Pointer(&h)) = header // which need not be aligned
	return int(h[1]), h[0] == Magic && h[1] <= MaxRecord-HeaderSize
}

// Marker in an environment says that a rule's command has it, which inherits the
// variables of an event that is under way already.
const Marker = "DEVSPOOL_COMMAND=1"

// stack is the process's stack as the kernel left it: the number of arguments,
// the arguments, a nil, the environment, a nil.
var stack unsafe.Pointer

// turn is the descriptor of the locked file at turnPath, or 0.
var turn uintptr

// beginning is begin, for Entry to find.
//
//lint:ignore U1000 only assembly refers to it
var beginning = begin

// IsEntry reports whether the process began at Entry, so that it could hand an event over before
// its runtime started. It did not in a build without the linker's flag.
func IsEntry() bool { return stack != nil }

// begin ends the process if its event could be handed over. Otherwise it leaves
// the process as one that the runtime can start in: with descriptors 0 to 2 open.
//
//go:nosplit
//go:norace
func begin() {
	if block, size := kernels(stack); size > 0 && kernelIsParent() {
		var before sigaction
		ignoreBrokenPipe(&before)
		if give(block, size) || takeTurn() && give(block, size) {
			syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
		}
		syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(syscall.SIGPIPE), uintptr(unsafe.Pointer(&before)), 0, sigsetSize, 0, 0)
	}
	openStandard()
}

// sigaction has room for the kernel's struct sigaction, which has 6 words at most, and for
// the one more that QEMU writes on mips.
type sigaction [8]uintptr

// ignoreBrokenPipe keeps a write to a leader that died from ending the process.
//
//go:nosplit
//go:norace
func ignoreBrokenPipe(before *sigaction) {
	const ignore = 1 // SIG_IGN
	var action sigaction
	action[sigHandler] = ignore
	syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(syscall.SIGPIPE),
		uintptr(unsafe.Pointer(&action)), uintptr(unsafe.Pointer(before)), sigsetSize, 0, 0)
}

// openStandard opens the root directory on those of the descriptors 0 to 2 that
// are closed, as the kernel starts its helpers: the runtime gives up where it has
// to open /dev/null in their place and there is none yet.
//
//go:nosplit
//go:norace
func openStandard() {
	root := unsafe.Pointer(unsafe.StringData("/\x00"))
	for {
		fd, _, errno := syscall.RawSyscall6(syscall.SYS_OPENAT, 0, uintptr(root), syscall.O_RDONLY|syscall.O_DIRECTORY, 0, 0, 0)
		if errno != 0 {
			return
		}
		if fd > 2 {
			syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
			return
		}
	}
}

// The variables that the kernel gives to each helper.
const (
	hasAction = 1 << iota
	hasDevpath
	hasSeqnum
	hasSubsystem // and it is the argument
	hasAll       = 1<<iota - 1
)

const word = unsafe.Sizeof(uintptr(0))

// kernels returns the environment as one block, if it is what the kernel gives to a
// process that it starts for an event, with the event's subsystem as the only argument.
// The kernel lays the strings one behind the other, which is the form of a uevent.
//
//go:nosplit
//go:norace
func kernels(stack unsafe.Pointer) (block unsafe.Pointer, size uintptr) {
	if *(*uintptr)(stack) != 2 {
		return nil, 0
	}
	// The words are: 2, the program's name, the subsystem, nil, and then the environment.
	subsystem := *(*unsafe.Pointer)(unsafe.Add(stack, 2*word))
	envp := unsafe.Add(stack, 4*word)
	block = *(*unsafe.Pointer)(envp)
	has := 0
	for {
		variable := *(*unsafe.Pointer)(envp)
		if variable == nil {
			break
		}
		if variable != unsafe.Add(block, size) {
			return nil, 0
		}
		switch {
		case begins(variable, "ACTION="):
			has |= hasAction
		case begins(variable, "DEVPATH="):
			has |= hasDevpath
		case begins(variable, "SEQNUM="):
			has |= hasSeqnum
		case begins(variable, "SUBSYSTEM="):
			if same(unsafe.Add(variable, len("SUBSYSTEM=")), subsystem) {
				has |= hasSubsystem
			}
		case begins(variable, Marker):
			return nil, 0
		}
		for *(*byte)(unsafe.Add(block, size)) != 0 {
			size++
		}
		size++
		if size > MaxRecord-HeaderSize {
			return nil, 0
		}
		envp = unsafe.Add(envp, word)
	}
	if has != hasAll {
		return nil, 0
	}
	return block, size
}

// begins reports whether the C string s begins with prefix.
//
//go:nosplit
//go:norace
func begins(s unsafe.Pointer, prefix string) bool {
	for i := range len(prefix) {
		if *(*byte)(unsafe.Add(s, i)) != prefix[i] {
			return false
		}
	}
	return true
}

// same reports whether two C strings are equal.
//
//go:nosplit
//go:norace
func same(a, b unsafe.Pointer) bool {
	for *(*byte)(a) == *(*byte)(b) {
		if *(*byte)(a) == 0 {
			return true
		}
		a, b = unsafe.Add(a, 1), unsafe.Add(b, 1)
	}
	return false
}

// takeTurn waits until no other helper is about to become the leader, and reports
// whether that can be known here. By then one of them may be it.
//
//go:nosplit
//go:norace
func takeTurn() bool {
	const flags = syscall.O_RDONLY | syscall.O_CREAT | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	path := unsafe.Pointer(unsafe.StringData(turnPath + "\x00"))
	fd, _, errno := syscall.RawSyscall6(syscall.SYS_OPENAT, 0, uintptr(path), flags, 0o600, 0, 0)
	if errno == syscall.ENOENT {
		dir := unsafe.Pointer(unsafe.StringData(private + "\x00"))
		syscall.RawSyscall(syscall.SYS_MKDIRAT, 0, uintptr(dir), 0o700)
		fd, _, errno = syscall.RawSyscall6(syscall.SYS_OPENAT, 0, uintptr(path), flags, 0o600, 0, 0)
	}
	if errno != 0 {
		return false
	}
	if fd <= 2 { // which the runtime and its program take for standard input and the like
		high, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 3)
		syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
		if errno != 0 {
			return false
		}
		fd = high
	}
	turn = fd
	for {
		_, _, errno := syscall.RawSyscall(syscall.SYS_FLOCK, fd, syscall.LOCK_EX, 0)
		if errno != syscall.EINTR {
			return errno == 0
		}
	}
}

// give hands a block to the leader, and reports whether that is sure to take it.
//
//go:nosplit
//go:norace
func give(block unsafe.Pointer, size uintptr) bool {
	path := unsafe.Pointer(unsafe.StringData(Path + "\x00"))
	fd, _, errno := syscall.RawSyscall6(syscall.SYS_OPENAT, 0, uintptr(path),
		syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		return false
	}
	given := write(fd, block, size) && stays(fd)
	syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
	return given
}

// write writes one record. Where the pipe is full it waits for room, which costs
// less than to start a runtime that cannot do better.
//
//go:nosplit
//go:norace
func write(fd uintptr, block unsafe.Pointer, size uintptr) bool {
	header := [2]uint32{Magic, uint32(size)}
	record := [2]struct {
		base unsafe.Pointer
		size uintptr
	}{{unsafe.Pointer(&header), HeaderSize}, {block, size}}
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&record)), 2)
		switch errno {
		case 0:
			return n == HeaderSize+size
		case syscall.EAGAIN:
			syscall.RawSyscall(syscall.SYS_FCNTL, fd, syscall.F_SETFL, 0) // from now on it blocks
		case syscall.EINTR:
		default: // EPIPE: the leader died
			return false
		}
	}
}

// stays reports whether the FIFO has a name still. A leader that leaves takes the
// name away first and reads to the end then, so that it reads what was written
// before. What is written after that it may not read.
//
//go:nosplit
//go:norace
func stays(fd uintptr) bool {
	var st syscall.Stat_t
	_, _, errno := syscall.RawSyscall(sysFstat, fd, uintptr(unsafe.Pointer(&st)), 0)
	return errno == 0 && st.Mode&syscall.S_IFMT == syscall.S_IFIFO && st.Nlink > 0
}

// Environ returns the environment as the process was given it. os.Environ leaves out
// a variable that was given before, while an event may say one several times.
//
//go:linkname Environ syscall.runtime_envs
func Environ() []string

// FromKernel reports whether the kernel started this process for an event. Only such
// an event is handed over: a script, or a daemon that runs a program for each event,
// waits for its end.
func FromKernel(args, environ []string) bool {
	return likeKernels(args, environ) && kernelIsParent()
}

// likeKernels is kernels for a process whose runtime has begun.
func likeKernels(args, environ []string) bool {
	if len(args) != 2 {
		return false
	}
	has := 0
	for _, kv := range environ {
		key, value, _ := strings.Cut(kv, "=")
		switch {
		case key == "ACTION":
			has |= hasAction
		case key == "DEVPATH":
			has |= hasDevpath
		case key == "SEQNUM":
			has |= hasSeqnum
		case key == "SUBSYSTEM" && value == args[1]:
			has |= hasSubsystem
		case strings.HasPrefix(kv, Marker):
			return false
		}
	}
	return has == hasAll
}

// Offer hands over the event that the environment of this process holds, and
// reports whether there is a leader that is sure to take it. If not it is this
// process's turn to become the leader; others wait until it calls EndTurn.
func Offer(environ []string) bool {
	return TryOffer(environ) || turn == 0 && takeTurn() && TryOffer(environ)
}

// EndTurn lets the next helper have its turn.
func EndTurn() {
	if turn != 0 {
		syscall.Close(int(turn))
		turn = 0
	}
}

// Waiting reports whether a helper is about to hand over, or others wait behind it.
func Waiting() bool {
	fd, err := syscall.Open(turnPath, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(fd)
	return syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) == syscall.EWOULDBLOCK
}

// TryOffer is Offer without a wait for the turn.
func TryOffer(environ []string) bool {
	size := 0
	for _, kv := range environ {
		size += len(kv) + 1
	}
	if size == 0 || size > MaxRecord-HeaderSize {
		return false
	}
	block := make([]byte, 0, size)
	for _, kv := range environ {
		block = append(append(block, kv...), 0)
	}
	return give(unsafe.Pointer(unsafe.SliceData(block)), uintptr(size))
}
