package udev

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// swapped returns text with its words in the order in which amd64 would have read them.
func swapped(text string) string {
	b := []byte(text)
	for i := 0; i+4 <= len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.LittleEndian.Uint32(b[i:]))
	}
	return string(b)
}

// TestHashes compares with what udevd 252 sent on amd64.
func TestHashes(t *testing.T) {
	for text, want := range map[string]uint32{
		"block": 0xf0031db7, "disk": 0x7bcbc5ee, "partition": 0xcb234489, "input": 0xc1a28470, "drm": 0x16664179,
		"usb": 0x0577c5e5, "usb_device": 0x27f8f50c, "usb_interface": 0xb1024765, "net": 0xa74d3cc8, "tty": 0x8afa90c8,
		"sound": 0xd196ab6e, "mem": 0xc365cd83, "hidraw": 0xc2caf397,
	} {
		if got := murmur(swapped(text)); got != want {
			t.Errorf("the hash of %s is %08x, want %08x", text, got, want)
		}
	}
	for tag, want := range map[string]uint64{
		"systemd": 0x0200040010800000, "uaccess": 0x0000200800001008, "seat": 0x0208000000400001,
		"master-of-seat": 0x0012010800000000, "power-switch": 0x8000200040000010,
	} {
		if got := tagBits(swapped(tag)); got != want {
			t.Errorf("the bits of %s are %016x, want %016x", tag, got, want)
		}
	}
}

func TestParseMessage(t *testing.T) {
	whole := appendHeader(nil)
	whole = append(whole, "ACTION=add\x00DEVPATH=/devices/x\x00NAME=a\nb\x00junk\x00=x\x00EMPTY=\x00"...)
	seal(whole, "block", "disk", []string{"a", "b"})
	got, err := ParseMessage(whole)
	if want := []string{"ACTION=add", "DEVPATH=/devices/x", "NAME=a", "EMPTY="}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	for name, change := range map[string]func(msg []byte) []byte{
		"empty":            func([]byte) []byte { return nil },
		"header alone":     func(msg []byte) []byte { return msg[:headerSize] },
		"another magic":    func(msg []byte) []byte { msg[atMagic]++; return msg },
		"another prefix":   func(msg []byte) []byte { msg[0] = 'L'; return msg },
		"cut off":          func(msg []byte) []byte { return msg[:len(msg)-1] },
		"long properties":  func(msg []byte) []byte { binary.NativeEndian.PutUint32(msg[atLength:], 1<<32-1); return msg },
		"far properties":   func(msg []byte) []byte { binary.NativeEndian.PutUint32(msg[atOffset:], 1<<32-1); return msg },
		"properties early": func(msg []byte) []byte { binary.NativeEndian.PutUint32(msg[atOffset:], 8); return msg },
		"the kernel's": func([]byte) []byte {
			return []byte("add@/devices/x\x00ACTION=add\x00DEVPATH=/devices/x\x00SUBSYSTEM=x\x00SEQNUM=1\x00")
		},
	} {
		if got, err := ParseMessage(change(slices.Clone(whole))); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// FuzzParseMessage: what was parsed and is written again parses to the same.
func FuzzParseMessage(f *testing.F) {
	whole := append(appendHeader(nil), "ACTION=add\x00DEVPATH=/devices/x\x00SUBSYSTEM=block\x00"...)
	seal(whole, "block", "", nil)
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte("libudev\x00\xfe\xed\xca\xfe"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		properties, err := ParseMessage(msg)
		if err != nil {
			return
		}
		again := appendHeader(nil)
		for _, kv := range properties {
			if strings.IndexByte(kv, '=') <= 0 || strings.ContainsAny(kv, "\n\x00") {
				t.Errorf("%q is no property", kv)
			}
			again = append(append(again, kv...), 0)
		}
		seal(again, "x", "y", []string{"z"})
		if got, err := ParseMessage(again); len(again) >= leastForHeader && (err != nil || !slices.Equal(got, properties)) {
			t.Errorf("%q became %q, %v", properties, got, err)
		}
	})
}

func TestRecordText(t *testing.T) {
	full := Record{Links: []string{"disk/by-uuid/1", "x"}, Priority: -100, Initialized: 5, Properties: []string{"ID_FS_TYPE=ext4", "A=b\nI:9"},
		Tags: []string{"old", "systemd"}, Current: []string{"systemd"}}
	for _, c := range []struct {
		name     string
		r        Record
		numbered bool
		want     string
	}{
		{"full", full, true, "S:disk/by-uuid/1\nS:x\nL:-100\nI:5\nE:ID_FS_TYPE=ext4\nE:A=b\nG:old\nG:systemd\nQ:systemd\nV:1\n"},
		{"without numbers", full, false, "I:5\nE:ID_FS_TYPE=ext4\nE:A=b\nG:old\nG:systemd\nQ:systemd\nV:1\n"},
		{"only initialized", Record{Initialized: 5}, true, ""},
		{"only a link", Record{Links: []string{"x"}}, true, "S:x\nV:1\n"},
	} {
		if got := string(c.r.Append(nil, c.numbered)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	// eudev's: without Q: and V:, the tags are current; with W:, which says nothing to us.
	r := ParseRecord("S:a\nW:7\nL:x\nI:-1\nE:=x\nE:k\nG:seat\nZ:new\nshort\nS:\n")
	if got := fmt.Sprintf("%q %d %d %q %q %q", r.Links, r.Priority, r.Initialized, r.Properties, r.Tags, r.Current); got != `["a"] 0 0 [] ["seat"] ["seat"]` {
		t.Errorf("got %s", got)
	}
}

// FuzzParseRecord: what was parsed and is written again is the same, and has no line more.
func FuzzParseRecord(f *testing.F) {
	f.Add("S:disk/by-uuid/1\nL:-100\nI:5\nE:ID_FS_TYPE=ext4\nG:old\nG:systemd\nQ:systemd\nV:1\n")
	f.Add("W:7\nG:seat\nE:=x\nE:a=\x00b\nS:\xff")
	f.Fuzz(func(t *testing.T, text string) {
		r := ParseRecord(text)
		first := string(r.Append(nil, true))
		r = ParseRecord(first)
		if again := string(r.Append(nil, true)); again != first {
			t.Errorf("%q became %q", first, again)
		}
		for line := range strings.Lines(first) {
			if len(line) < 4 || line[1] != ':' || !strings.HasSuffix(line, "\n") || strings.ContainsAny(line[:len(line)-1], "\n\x00") {
				t.Errorf("%q is no line", line)
			}
		}
	})
}
