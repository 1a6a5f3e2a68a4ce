package identity

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sgHeader is struct sg_io_hdr of scsi/sg.h: a command that a disk is sent, and what came
// of it.
type sgHeader struct {
	interfaceID    int32
	direction      int32
	commandLength  byte
	maxSense       byte
	iovecCount     uint16
	dataLength     uint32
	data           unsafe.Pointer
	command        unsafe.Pointer
	sense          unsafe.Pointer
	timeout        uint32 // in ms
	flags          uint32
	packID         int32
	userPointer    uintptr
	status         byte
	maskedStatus   byte
	messageStatus  byte
	senseWritten   byte
	hostStatus     uint16
	driverStatus   uint16
	residual       int32
	duration, info uint32
}

// The request SG_IO and the values of its fields (scsi/sg.h), and codes of SPC.
const (
	sgIO           = 0x2285 // SG_IO
	sgFromDevice   = -3     // SG_DXFER_FROM_DEV
	sgTimeout      = 10000  // ms: what takes a disk longer is no identity
	inquiryLength  = 36
	opticalType    = 5
	senseDescribed = 0x72
	senseFixed     = 0x70
)

// sendCommand sends a command that reads, and reports whether the kernel could send it.
func sendCommand(fd int, command, data, sense []byte) (h sgHeader, ok bool) {
	h = sgHeader{
		interfaceID: 'S', direction: sgFromDevice, timeout: sgTimeout,
		commandLength: byte(len(command)), command: unsafe.Pointer(&command[0]),
		dataLength: uint32(len(data)), data: unsafe.Pointer(&data[0]),
		maxSense: byte(len(sense)), sense: unsafe.Pointer(&sense[0]),
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), sgIO, uintptr(unsafe.Pointer(&h)))
	runtime.KeepAlive(command)
	runtime.KeepAlive(data)
	runtime.KeepAlive(sense)
	return h, errno == 0
}

// askIdentify sends ATA's IDENTIFY through SCSI (SAT-3, 12.2), and returns the answer, or
// "". First it asks what the device is: for an optical drive the operation code of the
// 12-byte command means to blank the disc.
func askIdentify(fd int) string {
	sense := make([]byte, 32)
	about := make([]byte, inquiryLength)
	// 0x12 is INQUIRY; the type of the device is in the first byte of its answer.
	h, ok := sendCommand(fd, []byte{0x12, 0, 0, 0, inquiryLength, 0}, about, sense)
	if !ok || h.status != 0 || h.hostStatus != 0 {
		return ""
	}
	const (
		pioIn    = 4 << 1 // the protocol "PIO data-in"
		transfer = 0x2e   // check condition, from the device, in blocks, as many as in the sector count
	)
	var command []byte
	// ATA PASS-THROUGH (12) with IDENTIFY DEVICE for a disk; ATA PASS-THROUGH (16) with
	// IDENTIFY PACKET DEVICE for an optical drive.
	switch about[0] & 0x1f {
	case 0, 0x14:
		command = []byte{0xa1, pioIn, transfer, 0, 1, 0, 0, 0, 0, 0xec, 0, 0}
	case opticalType:
		command = []byte{0x85, pioIn, transfer, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xa1, 0}
	default:
		return ""
	}
	answer := make([]byte, identifySize)
	clear(sense)
	if _, ok := sendCommand(fd, command, answer, sense); !ok || !isATAReturn(sense) {
		return ""
	}
	return string(answer)
}

// keptIdentify returns what the kernel itself keeps of an ATA device's answer, or "". The
// device hears nothing of it. An optical drive may answer askIdentify in a way that the
// kernel takes for an error.
func keptIdentify(fd int) string {
	const hdioGetIdentity = 0x30d // linux/hdreg.h
	answer := make([]byte, identifySize)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), hdioGetIdentity, uintptr(unsafe.Pointer(&answer[0]))); errno != 0 {
		return ""
	}
	// The kernel has the words in its own byte order, and the text as it is read.
	order := binary.NativeEndian
	for i := 0; i < identifySize; i += 2 {
		isText := i >= 2*wordSerial && i < 2*(wordSerial+10) || i >= 2*wordRevision && i < 2*wordModelEnd
		if word := order.Uint16(answer[i:]); isText {
			order.PutUint16(answer[i:], word<<8|word>>8)
		} else {
			binary.LittleEndian.PutUint16(answer[i:], word)
		}
	}
	return string(answer)
}

// isATAReturn reports whether the sense data says that an ATA device answered: by a descriptor
// with its registers (code 9, of 12 bytes), or in the fixed form by "ATA pass-through
// information available" (0x00, 0x1d). A translation that does not know the command leaves
// neither.
func isATAReturn(sense []byte) bool {
	return sense[0] == senseDescribed && sense[8] == 9 && sense[9] == 12 ||
		sense[0] == senseFixed && sense[12] == 0 && sense[13] == 0x1d
}

// discPresent asks a drive whether a disc is in it, which does not make it spin.
func discPresent(fd int) bool {
	const (
		cdromDriveStatus = 0x5326 // of linux/cdrom.h, as those below
		currentSlot      = 0x7fffffff
		discOK           = 4
	)
	status, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), cdromDriveStatus, currentSlot)
	return errno == 0 && status == discOK
}
