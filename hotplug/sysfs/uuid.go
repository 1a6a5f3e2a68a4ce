package sysfs

import "golang.org/x/sys/unix"

// NewUUID returns a random UUID (version 4) in the form that the kernel takes after an action
// that is written to a uevent file: it passes it on as SYNTH_UUID. Where the kernel has no random
// numbers yet it is always the same one, which will do too.
func NewUUID() string {
	var b [16]byte
	_, _ = unix.Getrandom(b[:], 0)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	const digits = "0123456789abcdef"
	text := make([]byte, 0, 36)
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text = append(text, '-')
		}
		text = append(text, digits[c>>4], digits[c&15])
	}
	return string(text)
}
