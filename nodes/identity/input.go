package identity

import "strings"

// Numbers of linux/input-event-codes.h.
const (
	evKey, evRel, evAbs, evSwitch = 0x01, 0x02, 0x03, 0x05

	relX, relY, relHWheel, relWheel = 0x00, 0x01, 0x06, 0x08

	absX, absY, absZ, absRX = 0x00, 0x01, 0x02, 0x03
	absPressure             = 0x18
	absSlot                 = 0x2f
	absTouchX, absTouchY    = 0x35, 0x36

	propDirect, propPointingStick, propAccelerometer = 0x01, 0x05, 0x06

	buttonMisc         = 0x100 // from here on buttons, below keys
	button0, button1   = 0x100, 0x101
	buttonMouse        = 0x110
	buttonJoystick     = 0x120
	buttonDigi         = 0x140 // tools of tablets and touchpads
	toolPen            = 0x140
	toolFinger         = 0x145
	buttonTouch        = 0x14a
	buttonStylus       = 0x14b
	keyOK              = 0x160
	padUp, padRight    = 0x220, 0x223
	keyALSToggle       = 0x230
	happy1, happy40    = 0x2c0, 0x2e7
	busI2C             = 0x18
	textOfKeyboardKeys = 0xfffffffe // ESC, the digits, Q to D: the first 32 keys but the reserved one
)

// officeKeys are on many keyboards and on no joystick.
var officeKeys = [...]uint{
	29, 58, 69, 110, 113, 140, 144, 155, 164, 224, // Ctrl, CapsLock, NumLock, Insert, mute, calculator, file, mail, play, darker
}

// capabilities is a set of numbers as sysfs writes it: words in hexadecimal, the highest
// first, each with as many bits as the kernel's long.
type capabilities []uint64

// wordBits is how many bits a word has. The kernel writes for the word size of who reads.
const wordBits = 32 << (^uint(0) >> 63)

// maxWords bounds a set: enough for all keys in words of 32 bits.
const maxWords = 24

func parseCapabilities(text string) capabilities {
	var words [maxWords]uint64 // the lowest first
	n := 0
	for n < maxWords {
		at := strings.LastIndexByte(text, ' ')
		words[n] = parseHex(text[at+1:])
		n++
		if at < 0 {
			break
		}
		text = text[:at]
	}
	return append(capabilities(nil), words[:n]...)
}

func parseHex(text string) (n uint64) {
	for i := range len(text) {
		digit := strings.IndexByte(lowerHex, text[i]|0x20)
		if digit < 0 {
			break
		}
		n = n<<4 | uint64(digit)
	}
	return n
}

func (c capabilities) has(bit uint) bool {
	word := bit / wordBits
	return word < uint(len(c)) && c[word]>>(bit%wordBits)&1 == 1
}

// count counts the bits from first to last.
func (c capabilities) count(first, last uint) (n int) {
	for bit := first; bit <= last; bit++ {
		if c.has(bit) {
			n++
		}
	}
	return n
}

// inputDevice is what an input device can do.
type inputDevice struct{ events, absolute, relative, keys, properties capabilities }

// input is for keyboards, mice and their like, and their nodes.
func (s *subject) input() {
	device := s.inputDevice()
	if device != nil {
		s.set("ID_INPUT", "1")
		in := inputDevice{
			events:     parseCapabilities(device.value("capabilities/ev")),
			absolute:   parseCapabilities(device.value("capabilities/abs")),
			relative:   parseCapabilities(device.value("capabilities/rel")),
			keys:       parseCapabilities(device.value("capabilities/key")),
			properties: parseCapabilities(device.value("properties")),
		}
		bus, _ := number(device.value("id/bustype"), 16)
		s.classify(&in, bus == busI2C)
	}
	s.inputNames(device)
}

// inputDevice returns the device whose node or part the subject is: itself or above.
func (s *subject) inputDevice() *dir {
	for d := s.dev; d != nil; d = d.up {
		if d.readSubsystem() != "input" {
			return nil
		}
		if strings.HasPrefix(d.name(), "input") {
			if _, there := d.attr("capabilities/ev"); there {
				return d
			}
		}
	}
	return nil
}

func (s *subject) classify(in *inputDevice, onI2C bool) {
	isPointer := s.classifyPointer(in, onI2C)
	isKeys := s.classifyKeys(in)
	if !isPointer && !isKeys && in.hasWheel() {
		s.set("ID_INPUT_KEY", "1")
	}
	if in.events.has(evSwitch) {
		s.set("ID_INPUT_SWITCH", "1")
	}
}

func (in *inputDevice) hasWheel() bool {
	return in.events.has(evRel) && (in.relative.has(relWheel) || in.relative.has(relHWheel))
}

// classifyPointer finds what kinds of pointing device it is: of systemd's rules, in
// words, see input_id there.
func (s *subject) classifyPointer(in *inputDevice, onI2C bool) bool {
	var (
		hasKeys  = in.events.has(evKey)
		hasXY    = in.absolute.has(absX) && in.absolute.has(absY)
		isDirect = in.properties.has(propDirect)
	)
	if in.properties.has(propAccelerometer) || !hasKeys && hasXY && in.absolute.has(absZ) {
		s.set("ID_INPUT_ACCELEROMETER", "1")
		return true
	}
	var (
		hasPen       = in.keys.has(buttonStylus) || in.keys.has(toolPen)
		fingerOnly   = in.keys.has(toolFinger) && !in.keys.has(toolPen)
		touches      = in.keys.has(buttonTouch) || isDirect
		mouseButtons = in.keys.count(buttonMouse, buttonJoystick-1) > 0
		movesXY      = in.events.has(evRel) && in.relative.has(relX) && in.relative.has(relY)
		// A device that claims to have all axes has no touch positions.
		hasTouchXY = in.absolute.has(absTouchX) && in.absolute.has(absTouchY) &&
			!(in.absolute.has(absSlot) && in.absolute.has(absSlot-1))
		padButtons = in.keys.has(button0) && in.keys.has(button1) && !hasPen

		sticks = in.joystickParts()

		tablet, touchpad, absMouse, touchscreen, joystick, tabletPad bool
	)
	switch {
	case hasXY && hasPen:
		tablet = true
	case hasXY && fingerOnly && !isDirect:
		touchpad = true
	case hasXY && mouseButtons:
		absMouse = true // such as a virtual machine's
	case hasXY && touches:
		touchscreen = true
	case sticks > 0:
		joystick = true
	}
	switch {
	case !hasTouchXY:
	case hasPen:
		tablet = true
	case fingerOnly && !isDirect:
		touchpad = true
	case touches:
		touchscreen = true
	}
	if padButtons && in.hasWheel() && !movesXY {
		tablet = true
	}
	tabletPad = tablet && padButtons
	mouse := !tablet && !touchpad && !joystick && mouseButtons && (movesXY || !hasXY)
	pointingStick := in.properties.has(propPointingStick) || mouse && onI2C
	// Some keyboards claim buttons of joysticks, and graphics tablets too.
	if joystick && (hasKeys && in.officeKeys() >= 4 || sticks < 2 || in.hasWheel() && padButtons) {
		joystick = false
	}
	for _, kind := range [...]struct {
		is   bool
		name string
	}{
		{pointingStick, "POINTINGSTICK"},
		{mouse || absMouse, "MOUSE"},
		{touchpad, "TOUCHPAD"},
		{touchscreen, "TOUCHSCREEN"},
		{joystick, "JOYSTICK"},
		{tablet, "TABLET"},
		{tabletPad, "TABLET_PAD"},
	} {
		if kind.is {
			s.set("ID_INPUT_"+kind.name, "1")
		}
	}
	return tablet || mouse || absMouse || touchpad || touchscreen || joystick || pointingStick
}

// joystickParts counts the buttons and axes that joysticks, gamepads and pedals have.
// The buttons are not counted where the one below them is there: such a keyboard claims
// them all.
func (in *inputDevice) joystickParts() (n int) {
	if in.events.has(evKey) && !in.keys.has(buttonJoystick-1) {
		n = in.keys.count(buttonJoystick, buttonDigi-1) + in.keys.count(happy1, happy40) + in.keys.count(padUp, padRight)
	}
	if in.events.has(evAbs) {
		n += in.absolute.count(absRX, absPressure-1)
	}
	return n
}

func (in *inputDevice) officeKeys() (n int) {
	for _, key := range officeKeys {
		if in.keys.has(key) {
			n++
		}
	}
	return n
}

func (s *subject) classifyKeys(in *inputDevice) bool {
	if !in.events.has(evKey) {
		return false
	}
	found := in.keys.count(0, buttonMisc-1) > 0 || in.keys.count(keyOK, padUp-1) > 0 || in.keys.count(keyALSToggle, happy1-1) > 0
	if found {
		s.set("ID_INPUT_KEY", "1")
	}
	if len(in.keys) > 0 && in.keys[0]&textOfKeyboardKeys == textOfKeyboardKeys {
		s.set("ID_INPUT_KEYBOARD", "1")
		return true
	}
	return found
}

// inputBuses are the values of ID_BUS for what hangs at no USB, the last that fits.
var inputBuses = [...]struct{ subsystem, bus string }{
	{"acpi", "acpi"}, {"platform", "platform"}, {"i2c", "i2c"}, {"rmi4", "rmi"}, {"serio", "i8042"},
}

// inputClasses are the names of classes in links, the last that fits.
var inputClasses = [...]struct{ property, class string }{
	{"KEYBOARD", "kbd"}, {"MOUSE", "mouse"}, {"TOUCHPAD", "mouse"}, {"TABLET", "mouse"}, {"JOYSTICK", "joystick"},
}

func (s *subject) inputNames(device *dir) {
	var on ancestors
	if !s.isVirtual() { // else it is a program's own, or comes by Bluetooth
		on = s.inputAncestors(device)
	}
	if on.has("bluetooth") || device != nil && device.value("id/bustype") == "0005" {
		s.set("ID_BUS", "bluetooth")
		return
	}
	bus := ""
	for i := range inputBuses {
		if on.has(inputBuses[i].subsystem) {
			bus = inputBuses[i].bus
		}
	}
	onUSB := on.has("usb")
	switch {
	case bus != "":
		s.set("ID_BUS", bus)
	case onUSB:
		s.usbID()
	}
	if s.id.Get("ID_BUS") == "" && on.has("pci") {
		s.set("ID_BUS", "pci")
	}
	class := s.inputClass(device)
	if class != "" && s.id.Get("ID_SERIAL") == "" {
		s.set("ID_SERIAL", "noserial")
	}
	name := s.e.Sysname()
	isEvent := strings.HasPrefix(name, "event")
	isLegacy := strings.HasPrefix(name, "mouse") || strings.HasPrefix(name, "js")
	suffix := "-" + class
	if isEvent {
		suffix = "-event-" + class
	}
	if isEvent || isLegacy {
		s.linkInput(class, suffix, isEvent && onUSB)
	}
	if !on.has("pci") && !onUSB && !on.has("platform") && !on.has("acpi") {
		return
	}
	s.pathID(s.dev)
	switch {
	case class != "" && (isEvent || isLegacy):
		s.linkPaths("input/by-path", suffix)
	case class == "" && isEvent && (onUSB || on.has("platform") || on.has("i2c")):
		s.linkPaths("input/by-path", "-event")
	}
}

// linkInput links a device by its serial number, and where it is not the first interface
// of a USB device by the interface too.
func (s *subject) linkInput(class, suffix string, needsNoClass bool) {
	if s.id.Get("ID_BUS") == "" {
		return
	}
	var iface *dir
	if s.onBus("usb") {
		iface = s.usbAbove(s.dev, true)
	}
	if iface == nil {
		return
	}
	number := iface.value("bInterfaceNumber")
	id := s.id.Get("ID_BUS") + "-" + s.id.Get("ID_SERIAL")
	switch {
	case class == "" && needsNoClass && number != "":
		s.link("input/by-id", id+"-event-if"+number)
	case class == "":
	case number == "" || number == "00":
		s.link("input/by-id", id+suffix)
	default:
		s.link("input/by-id", id+"-if"+number+suffix)
	}
}

// inputClass returns what a device is called in links, or "".
func (s *subject) inputClass(device *dir) (class string) {
	for i := range inputClasses {
		if s.id.Get("ID_INPUT_"+inputClasses[i].property) != "" {
			class = inputClasses[i].class
		}
	}
	if device == nil {
		return class
	}
	if strings.Contains(device.path, "/pcspkr") {
		class = "spkr"
	}
	if name := device.value("name"); strings.Contains(name, "dvb") || strings.Contains(name, "DVB") || strings.Contains(name, " IR ") {
		class = "ir"
	}
	return class
}

// ancestors are the subsystems above a device.
type ancestors []string

func (a ancestors) has(subsystem string) bool {
	for _, one := range a {
		if one == subsystem {
			return true
		}
	}
	return false
}

func (s *subject) inputAncestors(device *dir) (all ancestors) {
	d := s.dev
	if device != nil {
		d = device
	}
	for d = d.up; d != nil; d = d.up {
		if subsystem := d.readSubsystem(); subsystem != "" && subsystem != "input" {
			all = append(all, subsystem)
		}
	}
	return all
}
