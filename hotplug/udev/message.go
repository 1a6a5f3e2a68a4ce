package udev

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
)

// Group is the multicast group, as its bit, that udevd sends to and libudev's "udev"
// monitors listen to.
const Group = 2

// The header of a message (struct monitor_netlink_header in systemd's and eudev's
// sources). Lengths are in host order; the magic and what filters look at are big endian.
const (
	headerSize     = 40
	headerMagic    = 0xfeedcafe // UDEV_MONITOR_MAGIC in libudev's sources
	atMagic        = 8
	atHeaderSize   = 12
	atOffset       = 16 // of the properties
	atLength       = 20 // of the properties
	atSubsystem    = 24 // its hash
	atDevtype      = 28 // its hash, or 0 where the event has none
	atTags         = 32 // the bloom filter: its upper 32 bits, then its lower
	headerPrefix   = "libudev\x00"
	leastMessage   = 32   // properties in bytes: less is dropped by libudev
	mostMessage    = 8191 // a message in bytes: more is dropped by libudev before 252
	leastForHeader = headerSize + leastMessage
)

// appendHeader appends room for a header. The properties follow, KEY=VALUE and a NUL each.
func appendHeader(to []byte) []byte { return append(to, make([]byte, headerSize)...) }

// seal fills in the header of a message to which nothing is added any more. In it are
// hashes that clients' filters in the kernel (BPF) compare: a filter drops a message
// whose hashes are 0.
func seal(msg []byte, subsystem, devtype string, tags []string) {
	// What filters look at is in network order, since BPF loads words in that. The rest is in
	// the order of this machine, whose programs read it.
	copy(msg, headerPrefix)
	binary.BigEndian.PutUint32(msg[atMagic:], headerMagic)
	binary.NativeEndian.PutUint32(msg[atHeaderSize:], headerSize)
	binary.NativeEndian.PutUint32(msg[atOffset:], headerSize)
	binary.NativeEndian.PutUint32(msg[atLength:], uint32(len(msg)-headerSize))
	binary.BigEndian.PutUint32(msg[atSubsystem:], murmur(subsystem))
	if devtype != "" {
		binary.BigEndian.PutUint32(msg[atDevtype:], murmur(devtype))
	}
	var bloom uint64
	for _, tag := range tags {
		bloom |= tagBits(tag)
	}
	binary.BigEndian.PutUint64(msg[atTags:], bloom)
}

// ErrMessage is returned for what is no message of libudev's form.
var ErrMessage = errors.New("not a message of libudev's")

// ParseMessage returns the properties of a message, KEY=VALUE each. A value ends at a
// newline, as libudev reads it.
func ParseMessage(msg []byte) (properties []string, err error) {
	if len(msg) < leastForHeader || !bytes.HasPrefix(msg, []byte(headerPrefix)) || binary.BigEndian.Uint32(msg[atMagic:]) != headerMagic {
		return nil, ErrMessage
	}
	// Sums of 64 bits do not overflow, whatever the message says.
	from := uint64(binary.NativeEndian.Uint32(msg[atOffset:]))
	to := from + uint64(binary.NativeEndian.Uint32(msg[atLength:]))
	if from < leastMessage || to > uint64(len(msg)) {
		return nil, ErrMessage
	}
	for rest := string(msg[from:to]); rest != ""; {
		var kv string
		kv, rest, _ = strings.Cut(rest, "\x00")
		if kv = oneLine(kv); strings.IndexByte(kv, '=') > 0 {
			Add(&properties, kv)
		}
	}
	return properties, nil
}

// oneLine ends text at its first newline or NUL. That is what udevd does to what the
// kernel says: else a device could forge lines of the database.
func oneLine(text string) string {
	if end := strings.IndexByte(text, '\n'); end >= 0 {
		text = text[:end]
	}
	if end := strings.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	return text
}

// tagBits returns the bits of a 64-bit bloom filter that stand for a tag: four of them,
// each by 6 bits of its hash.
func tagBits(tag string) uint64 {
	h := murmur(tag)
	// As libudev's util_string_bloom64: filters in the kernel compare the same bits.
	return 1<<(h&63) | 1<<(h>>6&63) | 1<<(h>>12&63) | 1<<(h>>18&63)
}

// murmur returns the hash of text by MurmurHash2 of 32 bits with seed 0, as Austin
// Appleby published it: it reads words as the machine has them, so that the hash of a text is
// another on one that has the highest byte first. Libudev's filters compare what it gives there.
func murmur(text string) uint32 {
	const m, r = 0x5bd1e995, 24
	h := uint32(len(text))
	for ; len(text) >= 4; text = text[4:] {
		k := binary.NativeEndian.Uint32([]byte(text[:4]))
		k *= m
		k ^= k >> r
		h = h*m ^ k*m
	}
	if len(text) > 0 {
		for i := range len(text) {
			h ^= uint32(text[i]) << (8 * i)
		}
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
