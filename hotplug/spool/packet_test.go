package spool

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/uevent"
)

// null is the packet that libudev-compat was seen to take whole.
const null = `add@/devices/virtual/mem/null
ACTION=add
DEVPATH=/devices/virtual/mem/null
SUBSYSTEM=mem
SEQNUM=1234
DEVNAME=null
MAJOR=1
MINOR=3
DEVLINKS=/dev/char/1:3 /dev/blackhole
TAGS=:mytag:
ID_SERIAL=ABC123
USEC_INITIALIZED=123450000
`

func event(t *testing.T, env ...string) *uevent.Event {
	t.Helper()
	e, err := uevent.FromEnviron(env)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAppend(t *testing.T) {
	t.Parallel()
	mem := []string{"ACTION=add", "DEVPATH=/devices/virtual/mem/null"}
	const head = "add@/devices/virtual/mem/null\nACTION=add\nDEVPATH=/devices/virtual/mem/null\n"
	for _, test := range []struct {
		name      string
		env, more []string
		want      string
	}{
		{"whole", append(slices.Clone(mem), "SUBSYSTEM=mem", "SEQNUM=1234", "DEVNAME=null", "MAJOR=1", "MINOR=3"),
			[]string{"DEVLINKS=/dev/char/1:3 /dev/blackhole", "TAGS=:mytag:", "ID_SERIAL=ABC123", "USEC_INITIALIZED=123450000"},
			null},
		{"ours replaces the kernel's", append(slices.Clone(mem), "DEVNAME=null", "MAJOR=1"), []string{"DEVNAME=/dev/zero"},
			head + "MAJOR=1\nDEVNAME=/dev/zero\n"},
		{"said several times", append(slices.Clone(mem), "A=1", "B=2", "A=3", "A=1", "DEVNAME=a", "DEVNAME=b"), []string{"B=4"},
			head + "A=1\nA=3\nA=1\nDEVNAME=a\nB=4\n"},
		{"ours replaces all of them", append(slices.Clone(mem), "A=1", "A=2", "TAGS=:x:", "TAGS=:y:"), []string{"A=3", "TAGS="},
			head + "A=3\nTAGS=\n"},
		{"the last of ours", mem, []string{"A=1", "AB=2", "A=3"}, head + "AB=2\nA=3\n"},
		{"a key that begins alike", append(slices.Clone(mem), "TAGS_X=1"), []string{"TAGS=:a:"}, head + "TAGS_X=1\nTAGS=:a:\n"},
		{"the helper's own", append(slices.Clone(mem), "PATH=/bin", "HOME=/", "DEVSPOOL_COMMAND=1", "PATHS=1"), nil, head + "PATHS=1\n"},
		{"a forged line", append(slices.Clone(mem), "NAME=\"x\nDEVNAME=sda\x01MAJOR=8\r\x1b\x7f\""), nil,
			head + `NAME="x\x0aDEVNAME=sda\x01MAJOR=8\x0d\x1b\x7f"` + "\n"},
		{"backslashes", append(slices.Clone(mem), `A=\x20\x5c\x0a\\x0a\x0A\n\`), nil,
			head + `A=\x20\x5cx5c\x5cx0a\\x5cx0a\x0A\n\` + "\n"},
		{"empty and UTF-8", append(slices.Clone(mem), "A=", "B=ü€ b", "C=a=b"), nil, head + "A=\nB=ü€ b\nC=a=b\n"},
	} {
		got := string(Append([]byte("before "), event(t, test.env...), test.more))
		if got, _ = strings.CutPrefix(got, "before "); got != test.want {
			t.Errorf("%s:\n%s\nwant\n%s", test.name, got, test.want)
		}
		p, err := Parse([]byte(got))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		for _, kv := range p.Env {
			if !slices.Contains(test.env, kv) && !slices.Contains(test.more, kv) {
				t.Errorf("%s: %q was never said", test.name, kv)
			}
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text      string
		action, devpath string
		env             []string
	}{
		{"header alone", "add@/devices/x", "add", "/devices/x", []string{"ACTION=add", "DEVPATH=/devices/x"}},
		{"ended by NUL", "add@/devices/x\x00ACTION=add\x00DEVPATH=/devices/x\x00A=1\x00", "add", "/devices/x",
			[]string{"ACTION=add", "DEVPATH=/devices/x", "A=1"}},
		{"newline in a value ended by NUL", "add@/devices/x\x00ACTION=add\x00DEVPATH=/devices/x\x00A=1\nB=2\x00", "add", "/devices/x",
			[]string{"ACTION=add", "DEVPATH=/devices/x", "A=1\nB=2"}},
		{"header for libudev-zero", "add@/devices/x=\nACTION=add\nDEVPATH=/devices/x\n", "add", "/devices/x",
			[]string{"ACTION=add", "DEVPATH=/devices/x"}},
		{"that header alone", "add@/devices/x=\n", "add", "/devices/x", []string{"ACTION=add", "DEVPATH=/devices/x"}},
		{"a devpath that ends so", "add@/devices/x=\nDEVPATH=/devices/x=\n", "add", "/devices/x=",
			[]string{"DEVPATH=/devices/x=", "ACTION=add"}},
		{"no newline at the end, empty lines", "add@/soc@0/x\n\nACTION=add\n\nDEVPATH=/soc@0/x", "add", "/soc@0/x",
			[]string{"ACTION=add", "DEVPATH=/soc@0/x"}},
		{"said twice", "add@/x\nDEVPATH=/x\nACTION=add\nACTION=remove\n", "remove", "/x",
			[]string{"DEVPATH=/x", "ACTION=add", "ACTION=remove"}},
	} {
		p, err := Parse([]byte(test.text))
		if err != nil || p.Action != test.action || p.Devpath != test.devpath || !slices.Equal(p.Env, test.env) {
			t.Errorf("%s: %q, error %v", test.name, p, err)
		}
	}
	for _, text := range []string{"", "\n", "add", "@/x", "add@", "add@x", "ACTION=add\nDEVPATH=/x\n", "add@/x\nA\n", "add@/x\n=1\n",
		"add@/x\nDEVPATH=x\n", "add@/x\nACTION=\n", "add@/x\nACTION=a@b\n"} {
		if p, err := Parse([]byte(text)); err != ErrMalformed {
			t.Errorf("%q: %q, error %v", text, p, err)
		}
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	p, err := Parse([]byte(null + "SEQNUM=1235\n"))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"SUBSYSTEM": "mem", "SEQNUM": "1235", "SEQ": "", "": ""} {
		if got, ok := p.Get(key); got != want || ok != (want != "") {
			t.Errorf("%s is %q, %v", key, got, ok)
		}
	}
}

// TestValues: of what an event has once the last counts, of all else each value.
func TestValues(t *testing.T) {
	t.Parallel()
	p, err := Parse([]byte(null + "A=1\nSEQNUM=1235\nA=\nA=1\nTAGS=:x:\n"))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string][]string{
		"A": {"1", "", "1"}, "SEQNUM": {"1235"}, "TAGS": {":x:"}, "SUBSYSTEM": {"mem"}, "SEQ": nil,
	} {
		if got := p.Values(key); !slices.Equal(got, want) {
			t.Errorf("%s has the values %q, want %q", key, got, want)
		}
	}
	if q, err := Parse(p.Append(nil)); err != nil || !slices.Equal(q.Values("A"), p.Values("A")) || strings.Count(string(p.Append(nil)), "SEQNUM=") != 1 {
		t.Errorf("written and read it is %q, error %v", q, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(null))
	f.Add([]byte("add@/x\nA=1\nA=2\nSEQNUM=1\nSEQNUM=2\nA=1\n"))
	f.Add([]byte("add@/devices/x=\x00ACTION=add\x00A=1\nB=2\x00"))
	f.Add([]byte(`add@/x` + "\n" + `A\x3d=\x5cx0a\x0a\` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		again := p.Append(nil)
		q, err := Parse(again)
		if err != nil {
			t.Fatalf("%q is refused: %v", again, err)
		}
		if q.Action != p.Action || q.Devpath != p.Devpath || !bytes.Equal(q.Append(nil), again) {
			t.Fatalf("%q has become %q", p, q)
		}
		for _, kv := range p.Env {
			key, _, _ := strings.Cut(kv, "=")
			want, _ := p.Get(key)
			if got, _ := q.Get(key); got != want || !slices.Equal(q.Values(key), p.Values(key)) {
				t.Fatalf("%s was %q and is %q", key, p.Values(key), q.Values(key))
			}
		}
		if bytes.Count(again, []byte("\n")) != len(q.Env)+1 || bytes.ContainsFunc(bytes.ReplaceAll(again, []byte("\n"), nil),
			func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Fatalf("%q holds control bytes", again)
		}
	})
}
