package identity

import "strings"

// rulesOf returns the rules that tell which links and properties the devices of a subsystem deserve,
// or "": much as udev's rules do, and in the order of these. A new kind of device is a few lines here.
//
// Each line is conditions and then, as the last word, what to do where all of them hold:
//
//	~GLOB      the kernel's name of the device (of a partition: of its disk) is such;
//	           * stands for anything, # for a number at the end, | for another glob
//	/TEXT      the devpath holds this
//	^GLOB      the device or one above it is of such a subsystem: attributes are its
//	%X1-2      one of these bits (in hex) is set in a set of an input device's:
//	           e events, k keys, r relative and a absolute axes, p properties
//	KEY        a property, a variable of the event or an attribute is there and not empty
//	KEY=GLOB   it is there and such
//	!COND      the condition does not hold
//
//	+PATH      the device deserves this link below /dev; & stands for each form of its path
//	KEY=VALUE  it deserves this property
//	=NAME      call a function
//	>NAME      go on at the line ":NAME" below
//
// {KEY} in a path or value stands for what a property, variable or attribute says, and
// where that is missing the line does nothing. Attributes are written in small letters:
// {serial}; {target>x/*/y} is one of the nearest device above whose name is target and a
// number, which * stands for, and # for the number. A key that begins with a dot is for
// the rules alone and may be empty: .P is what the name of a partition adds, .N the number
// at the end of the kernel's name. {KEY~} leaves no blank or slash, {KEY!} encodes them.
func rulesOf(subsystem string) string {
	switch subsystem {
	case "backlight":
		return `=path
`
	case "block":
		return `~dm-# =mapper
~md* =array
.HIDDEN >end
~dm-#|md* >contents
!~` + storage + ` >end
~sr* ID_CDROM=1
~sr0 +cdrom
~sr0 .PRIORITY=-100
~nvme* ^nvme* ID_SERIAL_SHORT={serial}
~nvme* ID_WWN={wwid}
~nvme* ^nvme* ID_MODEL={model}
~nvme* ^nvme* ID_REVISION={firmware_rev}
~nvme* ID_NSID={nsid}
~nvme* +disk/by-id/nvme-{ID_WWN}{.P}
~nvme* ID_NSID=1 !ID_MODEL=*/* !ID_SERIAL_SHORT=*/* +disk/by-id/nvme-{ID_MODEL}_{ID_SERIAL_SHORT}{.P}
~nvme* ID_SERIAL={ID_MODEL~}_{ID_SERIAL_SHORT~}
~nvme* +disk/by-id/nvme-{ID_SERIAL}{.P}
~nvme* ID_NSID ID_SERIAL={ID_SERIAL}_{ID_NSID}
~nvme* +disk/by-id/nvme-{ID_SERIAL}{.P}
~vd* ID_SERIAL={serial}
~vd* +disk/by-id/virtio-{ID_SERIAL}{.P}
~sd*|sr* =ata
~sd*|sr* /usb =usb
~sd*|sr* !ID_SERIAL !.WAIT =scsi
~sd*|sr* +disk/by-id/{ID_BUS}-{ID_SERIAL}{.P}
.ZONED +disk/by-id/scsi-{.ZONED}{.P}
+disk/by-id/usb-{ID_USB_SERIAL}{.P}
~sd*|sr* /fw ^scsi +disk/by-id/ieee1394-{ieee1394_id}{.P}
~pmem* ^nd +disk/by-id/pmem-{uuid}{.P}
~mmcblk# ^mmc ID_NAME={name}
~mmcblk# ^mmc ID_SERIAL={serial}
~mmcblk# +disk/by-id/mmc-{ID_NAME}_{ID_SERIAL}{.P}
~msblk#|mspblk# ^memstick ID_NAME={name}
~msblk#|mspblk# ^memstick ID_SERIAL={serial}
~msblk#|mspblk# +disk/by-id/memstick-{ID_NAME}_{ID_SERIAL}{.P}
~loop* =loop
=path
~mmcblk*boot# +disk/by-path/&-boot{.N}
!~mmcblk*boot# +disk/by-path/&{.P}
+disk/by-path/{ID_PATH_ATA_COMPAT}{.P}
~vd* ID_PATH=pci-* +disk/by-path/virtio-{ID_PATH}{.P}
+disk/by-id/wwn-{ID_WWN_WITH_EXTENSION}{.P}
+disk/by-diskseq/{DISKSEQ}{.P}
+disk/by-loop-inode/{ID_LOOP_BACKING_DEVICE}-{ID_LOOP_BACKING_INODE}{.P}
+disk/by-loop-ref/{ID_LOOP_BACKING_FILENAME_ENC}{.P}
:contents
ID_PART_ENTRY_NUMBER={PARTN}
ID_PART_ENTRY_UUID={PARTUUID}
ID_PART_ENTRY_NAME={PARTNAME!}
=contents
ID_FS_USAGE=filesystem|other|crypto +disk/by-uuid/{ID_FS_UUID_ENC}
ID_FS_USAGE=filesystem|other +disk/by-label/{ID_FS_LABEL_ENC}
ID_FS_USAGE=crypto !~dm-# +disk/by-label/{ID_FS_LABEL_ENC}
+disk/by-partuuid/{ID_PART_ENTRY_UUID}
ID_PART_ENTRY_SCHEME=gpt|? +disk/by-partlabel/{ID_PART_ENTRY_NAME}
!.P >end
!ID_PATH >end
+disk/by-path/{ID_PATH}-part/by-partnum/{.N}
+disk/by-path/{ID_PATH}-part/by-partuuid/{ID_PART_ENTRY_UUID}
ID_PART_ENTRY_SCHEME=gpt|? +disk/by-path/{ID_PATH}-part/by-partlabel/{ID_PART_ENTRY_NAME}
ID_FS_USAGE=filesystem|other|crypto +disk/by-path/{ID_PATH}-part/by-uuid/{ID_FS_UUID_ENC}
ID_FS_USAGE=filesystem|other|crypto +disk/by-path/{ID_PATH}-part/by-label/{ID_FS_LABEL_ENC}
`
	case "drm":
		return `=path
!DEVNAME >end
~card* +dri/by-path/&-card
~controlD* +dri/by-path/&-control
~renderD* +dri/by-path/&-render
`
	case "gpio":
		return `!~gpiochip# >end
=path
=usb
+gpio/by-path/&
+gpio/by-id/{ID_BUS}-{ID_SERIAL}-if{ID_USB_INTERFACE_NUM}
`
	case "hidraw":
		return `!/usb >end
=usb
=path
ID_USB_INTERFACE_NUM=00 +input/by-id/{ID_BUS}-{ID_SERIAL}-hidraw
!ID_USB_INTERFACE_NUM=00 +input/by-id/{ID_BUS}-{ID_SERIAL}-if{ID_USB_INTERFACE_NUM}-hidraw
+input/by-path/&-hidraw
`
	case "infiniband_verbs":
		return `=path
+infiniband/by-path/&
+infiniband/by-ibdev/uverbs-{ibdev}
`
	case "input":
		return `=input
=size
%p6 ID_INPUT_ACCELEROMETER=1
!%e1 %a0 %a1 %a2 ID_INPUT_ACCELEROMETER=1
ID_INPUT_ACCELEROMETER >keys
%a0 %a1 .XY=1
%k14b .PEN=1
%k140 .PEN=1
%k145 !%k140 .FINGER=1
%k14a .TOUCH=1
%p1 .TOUCH=1
%e2 %r0 %r1 .MOVES=1
%a35 %a36 .MULTI=1
%a2f %a2e .MULTI=
%k100 %k101 !%k140 .PAD=1
%e2 %r6 .WHEEL=1
%e2 %r8 .WHEEL=1
.XY .PEN .TABLET=1
.XY !.PEN .FINGER !%p1 .TOUCHPAD=1
.XY !.TABLET !.TOUCHPAD %k110-11f .ABSOLUTE=1
.XY !.TABLET !.TOUCHPAD !.ABSOLUTE .TOUCH .SCREEN=1
.STICK !.TABLET !.TOUCHPAD !.ABSOLUTE !.SCREEN .JOYSTICK=1
.MULTI .PEN .TABLET=1
.MULTI !.PEN .FINGER !%p1 .TOUCHPAD=1
.MULTI !.PEN .FINGER %p1 .SCREEN=1
.MULTI !.PEN !.FINGER .TOUCH .SCREEN=1
.PAD .WHEEL !.MOVES .TABLET=1
!.TABLET !.TOUCHPAD !.JOYSTICK %k110-11f .MOVES .MOUSE=1
!.TABLET !.TOUCHPAD !.JOYSTICK %k110-11f !.XY .MOUSE=1
%p5 ID_INPUT_POINTINGSTICK=1
.MOUSE id/bustype=0018 ID_INPUT_POINTINGSTICK=1
.OFFICE .JOYSTICK=
!.STICKS .JOYSTICK=
.WHEEL .PAD .JOYSTICK=
.MOUSE ID_INPUT_MOUSE=1
.ABSOLUTE ID_INPUT_MOUSE=1
.TOUCHPAD ID_INPUT_TOUCHPAD=1
.SCREEN ID_INPUT_TOUCHSCREEN=1
.JOYSTICK ID_INPUT_JOYSTICK=1
.TABLET ID_INPUT_TABLET=1
.TABLET .PAD ID_INPUT_TABLET_PAD=1
:keys
%e1 %k0-ff ID_INPUT_KEY=1
%e1 %k160-21f ID_INPUT_KEY=1
%e1 %k230-2bf ID_INPUT_KEY=1
%e1 .LETTERS ID_INPUT_KEYBOARD=1
.WHEEL !ID_INPUT_KEY !ID_INPUT_KEYBOARD !.MOUSE !.ABSOLUTE !.TOUCHPAD !.SCREEN !.JOYSTICK !.TABLET !ID_INPUT_POINTINGSTICK ID_INPUT_KEY=1
%e5 ID_INPUT_SWITCH=1
id/bustype=0005 >bluetooth
^bluetooth >bluetooth
^acpi ID_BUS=acpi
^platform ID_BUS=platform
^i2c ID_BUS=i2c
^rmi4 ID_BUS=rmi
^serio ID_BUS=i8042
!ID_BUS =usb
!ID_BUS ^pci ID_BUS=pci
ID_INPUT_KEYBOARD .CLASS=kbd
ID_INPUT_MOUSE .CLASS=mouse
ID_INPUT_TOUCHPAD .CLASS=mouse
ID_INPUT_TABLET .CLASS=mouse
ID_INPUT_JOYSTICK .CLASS=joystick
/pcspkr .CLASS=spkr
name=*dvb*|*DVB*|*_IR_* .CLASS=ir
.CLASS !ID_SERIAL ID_SERIAL=noserial
.CLASS .NAME=-{.CLASS}
.CLASS .EVENT .NAME=-event-{.CLASS}
!.CLASS /usb .NAME=-event
!.CLASS ^platform .NAME=-event
!.CLASS ^i2c .NAME=-event
=path
!.NODE >end
!.CLASS !.EVENT >end
.NAME +input/by-path/&{.NAME}
!.CLASS +input/by-id/{ID_BUS}-{ID_SERIAL}-event-if{ID_USB_INTERFACE_NUM}
.CLASS ID_USB_INTERFACE_NUM=00 +input/by-id/{ID_BUS}-{ID_SERIAL}{.NAME}
.CLASS !ID_USB_INTERFACE_NUM=00 +input/by-id/{ID_BUS}-{ID_SERIAL}-if{ID_USB_INTERFACE_NUM}{.NAME}
>end
:bluetooth
ID_BUS=bluetooth
`
	case "media":
		return `!DEVNAME >end
=path
~media* +media/by-path/&-media-controller
`
	case "mtd":
		return `~mtd# +mtd/by-name/{name}
`
	case "net":
		return `=path
/usb =usb
!ID_USB_SERIAL /pci ^pci ID_BUS=pci
!ID_USB_SERIAL /pci ^pci ID_VENDOR_ID={vendor}
!ID_USB_SERIAL /pci ^pci ID_MODEL_ID={device}
=net
`
	case "pci":
		return `=path
`
	case "platform":
		return `=path
`
	case "ptp":
		return `clock_name=KVM_virtual_PTP +ptp_kvm
clock_name=hyperv +ptp_hyperv
`
	case "rfkill":
		return `=path
`
	case "rtc":
		return `hctosys=1 +rtc
~rtc0 +rtc
~rtc0 .PRIORITY=-100
`
	case "scsi_generic":
		return `^scsi type=8 =scsi
!ID_SCSI >end
=path
+tape/by-id/scsi-{ID_SERIAL}
+tape/by-id/scsi-{ID_SERIAL}-changer
+tape/by-id/scsi-{ID_SCSI_SERIAL}
+tape/by-path/&-changer
`
	case "scsi_tape":
		return `!~st#|nst# >end
=usb
!ID_SERIAL =scsi
=path
~st# .PRIORITY=10
~nst# .P=-nst
+tape/by-id/{ID_BUS}-{ID_SERIAL}{.P}
+tape/by-id/{ID_BUS}-{ID_SCSI_SERIAL}{.P}
+tape/by-path/&{.P}
`
	case "sound":
		return `~controlC# =usb
~controlC# =path
~controlC# ID_USB_INTERFACE_NUM +snd/by-id/{ID_BUS}-{ID_SERIAL}-{ID_USB_INTERFACE_NUM}
+snd/by-path/&
!~card# >end
ACTION=change SOUND_INITIALIZED=1
!SOUND_INITIALIZED controlC{.N}/dev SOUND_INITIALIZED=1
!SOUND_INITIALIZED >end
=usb
!ID_BUS /pci ^pci ID_VENDOR_ID={vendor}
!ID_BUS /pci ^pci ID_MODEL_ID={device}
!ID_BUS /pci ID_BUS=pci
!ID_BUS ^platform SOUND_FORM_FACTOR=internal
SOUND_FORM_FACTOR >end
ID_ID={ID_BUS}-{ID_SERIAL}-{ID_USB_INTERFACE_NUM}
=path
ID_BUS=pci ID_PATH=pci-0000:00:* SOUND_FORM_FACTOR=internal
!SOUND_FORM_FACTOR ID_USB_INTERFACES=*:0e* SOUND_FORM_FACTOR=webcam
!SOUND_FORM_FACTOR ID_MODEL=*Speaker*|*speaker* SOUND_FORM_FACTOR=speaker
!SOUND_FORM_FACTOR ID_MODEL=*Headphone*|*headphone* SOUND_FORM_FACTOR=headphone
!SOUND_FORM_FACTOR ID_MODEL=*Headset*|*headset* SOUND_FORM_FACTOR=headset
!SOUND_FORM_FACTOR ID_MODEL=*Handset*|*handset* SOUND_FORM_FACTOR=handset
!SOUND_FORM_FACTOR ID_MODEL=*Microphone*|*microphone* SOUND_FORM_FACTOR=microphone
`
	case "tty":
		return `/usb =usb
!ID_BUS /pci ^pci ID_VENDOR_ID={vendor}
!ID_BUS /pci ^pci ID_MODEL_ID={device}
!ID_BUS ID_MODEL_ID ID_BUS=pci
!~ttyUSB#|ttyACM# >end
=path
^usb-serial .PORT=-port{port_number}
+serial/by-path/&{.PORT}
+serial/by-id/{ID_BUS}-{ID_SERIAL}-if{ID_USB_INTERFACE_NUM}{.PORT}
`
	case "usb":
		return `DEVTYPE=usb_device =usb
=path
`
	case "video4linux":
		return `!DEVNAME >end
=usb
=path
~video* +v4l/by-id/{ID_BUS}-{ID_SERIAL}-video-index{index}
~video*|vbi* +v4l/by-path/&-video-index{index}
~audio* +v4l/by-path/&-audio-index{index}
`
	case "virtio-ports":
		return `~vport* +virtio-ports/{name}
`
	}
	return ""
}

// storage are the kernel's names for disks that have names. Others (ram0, fd0) have none,
// and nobody reads them.
const storage = "loop*|mmcblk*|msblk*|mspblk*|nvme*|sd*|sr*|vd*|xvd*|bcache*|dasd*|ubd*|ubi*|scm*|pmem*|nbd*|zd*|rbd*|zram*|ublkb*"

// call calls what rules may call.
func (s *subject) call(name string) {
	switch name {
	case "array":
		s.array()
	case "ata":
		s.ata()
	case "contents":
		s.contents()
	case "input":
		s.input()
	case "loop":
		s.loop()
	case "mapper":
		s.mapper()
	case "net":
		s.net()
	case "path":
		s.pathID()
	case "scsi":
		s.scsiID()
	case "size":
		s.size()
	case "usb":
		s.usbID()
	}
}

// apply applies the rules of the device's subsystem.
func (s *subject) apply(section string) {
	if s.base != s.dev && s.dev.has("whole_disk") {
		return // a partition that is the same as its disk has no names
	}
	label := ""
	for section != "" {
		var line string
		line, section, _ = strings.Cut(section, "\n")
		if label != "" || line[0] == ':' {
			if line == label {
				label = ""
			}
			continue
		}
		if label = s.applyLine(line); label == ":end" {
			return
		}
	}
}

// applyLine applies a rule, and returns the label of the line to go on at, if any. Attributes
// are the device's own until a ^ leads to one above, and from there on that one's.
func (s *subject) applyLine(line string) (label string) {
	s.at = s.base
	for {
		word, rest, more := strings.Cut(line, " ")
		if !more {
			break
		}
		negated := word[0] == '!'
		if negated {
			word = word[1:]
		}
		if s.holds(word) == negated {
			return ""
		}
		line = rest
	}
	switch line[0] {
	case '>':
		return ":" + line[1:]
	case '=':
		s.call(line[1:])
	case '+':
		s.linkAs(line[1:])
	default:
		key, value, _ := strings.Cut(line, "=")
		if value, ok := s.expand(value, false); ok {
			s.set(key, value)
		}
	}
	return ""
}

// holds reports whether a condition holds.
func (s *subject) holds(word string) bool {
	switch word[0] {
	case '~':
		return matchAny(word[1:], s.base.name())
	case '/':
		return strings.Contains(s.e.Devpath, word)
	case '%':
		return s.can(word[1], word[2:])
	case '^':
		d := s.at
		for ; d != nil; d = d.up {
			if matchAny(word[1:], d.readSubsystem()) {
				s.at = d
				return true
			}
		}
		return false
	}
	key, pattern, compared := strings.Cut(word, "=")
	key, _ = s.expand(key, false)
	value := s.value(key)
	if !compared {
		return value != ""
	}
	return matchAny(pattern, value)
}

// value returns what a key stands for, "" where it is missing.
func (s *subject) value(key string) string {
	if key[0] < 'a' { // a property, or a variable of the event
		if value := s.id.Get(key); value != "" {
			return value
		}
		value, _ := s.e.Get(key)
		return value
	}
	d := s.at
	if prefix, name, found := strings.Cut(key, ">"); found {
		if d = d.near(prefix); d == nil {
			return ""
		}
		key = strings.ReplaceAll(strings.ReplaceAll(name, "*", d.name()), "#", trailingNumber(d.name()))
	}
	return substituted(d.value(key))
}

// expand puts values into a template. In a name of a file they have no slash. Ok is false where a value
// is missing, but for a key that begins with a dot.
func (s *subject) expand(template string, asName bool) (text string, ok bool) {
	for {
		before, rest, found := strings.Cut(template, "{")
		text += before
		if !found {
			return text, true
		}
		var key string
		key, template, _ = strings.Cut(rest, "}")
		value := s.value(strings.TrimRight(key, "~!"))
		switch {
		case value == "" && key[0] != '.':
			return "", false
		case key[len(key)-1] == '~':
			value = replaceChars(value, "")
		case key[len(key)-1] == '!':
			value = encode(value)
		}
		if asName {
			value = replaceChars(replaceSpace(value), "")
		}
		text += value
	}
}

// linkAs gives the device a link, or one for each form of its path.
func (s *subject) linkAs(template string) {
	before, after, found := strings.Cut(template, "&")
	if !found {
		s.link(template)
		return
	}
	s.link(before + "{ID_PATH}" + after)
	s.link(before + "{ID_PATH_WITH_USB_REVISION}" + after)
}

// matchAny matches with several patterns. A "_" matches a blank too; "?" alone
// matches what is not there.
func matchAny(patterns, text string) bool {
	for patterns != "" {
		var pattern string
		pattern, patterns, _ = strings.Cut(patterns, "|")
		if match(pattern, text) || pattern == "?" && text == "" {
			return true
		}
	}
	return false
}

// match matches with one pattern. Each * multiplies the time by the length of the text, and so
// patterns have few: they are all in this program, none in a config.
func match(pattern, text string) bool {
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '*':
			for ; ; text = text[1:] {
				if match(pattern[i+1:], text) {
					return true
				}
				if text == "" {
					return false
				}
			}
		case c == '#':
			return text != "" && trailingNumber(text) == text
		case text == "" || c != text[0] && !(c == '_' && text[0] == ' '):
			return false
		}
		text = text[1:]
	}
	return text == ""
}
