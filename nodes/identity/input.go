package identity

import (
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers of linux/input-event-codes.h that rules alone cannot count.
const (
	absRX, absPressure = 0x03, 0x18   // ABS_RX, ABS_PRESSURE
	buttonJoystick     = 0x120        // BTN_JOYSTICK
	buttonDigi         = 0x140        // BTN_DIGI
	padUp, padRight    = 0x220, 0x223 // BTN_DPAD_UP, BTN_DPAD_RIGHT
	happy1, happy40    = 0x2c0, 0x2e7 // BTN_TRIGGER_HAPPY1, BTN_TRIGGER_HAPPY40
	letterKeys         = 0xfffffffe   // ESC, the digits, Q to D: the first 32 keys but the reserved one
)

// officeKeys are on many keyboards and on no joystick: Ctrl, CapsLock, NumLock, Insert,
// mute, calculator, file, mail, play, darker. Each byte is the number of a key.
const officeKeys = "\x1d\x3a\x45\x6e\x71\x8c\x90\x9b\xa4\xe0"

// capabilities is a set of numbers as sysfs writes it: words in hexadecimal, the highest
// first, each with as many bits as the kernel's long. Here the lowest is first.
type capabilities []uint64

// capabilityFiles are the files of the sets, whose first letters rules know them by.
var capabilityFiles = [...]string{"capabilities/ev", "capabilities/key", "capabilities/rel", "capabilities/abs", "properties"}

const (
	events, keys, absolute = 0, 1, 3 // places in capabilityFiles
	capabilityLetters      = "ekrap" // of all of these, as a rule's %X1-2 has them
)

// wordBits is how many bits a word has. The kernel writes words of the size that the
// reading process has.
const wordBits = 32 << (^uint(0) >> 63)

// maxWords bounds a set: enough for all keys in words of 32 bits.
const maxWords = 24

// parseCapabilities reads the text of a file of capabilityFiles. Letters that are no hexadecimal
// digits count as 0: the kernel writes none.
func parseCapabilities(text string) (c capabilities) {
	for len(c) < maxWords {
		at := strings.LastIndexByte(text, ' ')
		n := uint64(0)
		for i := at + 1; i < len(text); i++ {
			n = n<<4 | uint64(max(0, strings.IndexByte(lowerHex, text[i])))
		}
		c = append(c, n)
		if at < 0 {
			break
		}
		text = text[:at]
	}
	return c
}

// count counts the bits from first to last.
func (c capabilities) count(first, last uint64) (n int) {
	for bit := first; bit <= last; bit++ {
		if word := bit / wordBits; word < uint64(len(c)) && c[word]>>(bit%wordBits)&1 == 1 {
			n++
		}
	}
	return n
}

// can reports whether a bit of a range such as 110-11f is in one of the sets, which letter names.
// Both come from the rules of this package, and are well formed.
func (s *subject) can(letter byte, bits string) bool {
	from, to, isRange := strings.Cut(bits, "-")
	if !isRange {
		to = from
	}
	first, _ := number(from, 16)
	last, _ := number(to, 16)
	return s.sets[strings.IndexByte(capabilityLetters, letter)].count(first, last) > 0
}

// input reads what an input device can do, and goes on with it instead of with its node.
func (s *subject) input() {
	if name := s.e.Sysname(); matchAny("event*|mouse*|js*", name) {
		s.set(".NODE", "1")
		if match("event*", name) {
			s.set(".EVENT", "1")
		}
	}
	// eventN, mouseN and jsN are ways to read one input device, whose directory inputN has its
	// capabilities and is what is named.
	for d := s.dev; d != nil && d.readSubsystem() == "input"; d = d.up {
		if match("input*", d.name()) {
			s.base = d
			break
		}
	}
	// Without capabilities nothing is known of it.
	if _, there := s.base.attr(capabilityFiles[events]); !there {
		return
	}
	s.set("ID_INPUT", "1")
	for i, name := range capabilityFiles {
		s.sets[i] = parseCapabilities(s.base.value(name))
	}
	s.countKeys(s.sets[keys])
}

// countKeys counts the buttons and axes that joysticks, gamepads and pedals have. The
// buttons are not counted where the one below them is there: such a keyboard claims them
// all.
func (s *subject) countKeys(pressed capabilities) {
	n := s.sets[absolute].count(absRX, absPressure-1)
	if pressed.count(buttonJoystick-1, buttonJoystick-1) == 0 {
		n += pressed.count(buttonJoystick, buttonDigi-1) + pressed.count(happy1, happy40) + pressed.count(padUp, padRight)
	}
	office := 0
	for i := range len(officeKeys) {
		office += pressed.count(uint64(officeKeys[i]), uint64(officeKeys[i]))
	}
	for _, fact := range [...]struct {
		key string
		is  bool
	}{
		{".STICK", n > 0}, {".STICKS", n > 1},
		{".OFFICE", office >= 4 && s.can('e', "1")}, // 1 is EV_KEY
		{".LETTERS", len(pressed) > 0 && pressed[0]&letterKeys == letterKeys},
	} {
		if fact.is {
			s.set(fact.key, "1")
		}
	}
}

// axis is struct input_absinfo of linux/input.h: what an absolute axis can say.
type axis struct {
	value, minimum, maximum, fuzz, flat int32
	resolution                          int32 // units in a millimetre, for X and Y; 0 if unknown
}

// getAxis is EVIOCGABS(0). How it says that it reads, some architectures write in other bits.
const getAxis = unix.BLKGETSIZE64&0xe0000000 | unsafe.Sizeof(axis{})<<16 | 'E'<<8 | 0x40

// hasSize reports whether the device may tell how large it is: where events come that have the
// axes X and Y.
func (s *subject) hasSize() bool {
	return match("event*", s.e.Sysname()) && s.dev.up != nil &&
		parseCapabilities(s.dev.up.value(capabilityFiles[absolute])).count(0, 1) == 2
}

// size asks an open input device how large it is, which libinput wants to know of touchpads and
// tablets.
func (s *subject) size() {
	var sizes [2]string
	for i := range sizes {
		var a axis
		// The kernel fills in the struct; errors are of devices that have no such axis, or have gone.
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), getAxis+uintptr(i), uintptr(unsafe.Pointer(&a)))
		if errno != 0 || a.resolution <= 0 {
			return
		}
		// In 64 bits: a device says minimum and maximum itself, and their difference may not fit 32.
		sizes[i] = strconv.FormatInt((int64(a.maximum)-int64(a.minimum))/int64(a.resolution), 10)
	}
	s.setAll("ID_INPUT_", "WIDTH_MM HEIGHT_MM", sizes[:])
}
