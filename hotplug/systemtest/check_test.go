package systemtest

import (
	"os"
	"strings"
	"testing"
	"unicode/utf16"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
)

// utf16Of returns text as UTF-16, high byte first or last.
func utf16Of(text string, bigEndian bool) string {
	var b []byte
	for _, c := range utf16.Encode([]rune(text)) {
		if bigEndian {
			b = append(b, byte(c>>8), byte(c))
		} else {
			b = append(b, byte(c), byte(c>>8))
		}
	}
	return string(b)
}

// TestCheckForeign gives --check, and a scan, what is no config of this kind: each is
// told as what it is, in one line, and a scan goes on with what it has.
func TestCheckForeign(t *testing.T) {
	kerneltest.NeedRoot(t)
	const rules = "# a comment\nsda 0:0 640\nsdb 0:0 640\nsdc 0:0 640\n"
	const mark = "\ufeff"
	udev := "# udev's\nACTION==\"remove\", GOTO=\"end\"\n" + strings.Repeat("SUBSYSTEM==\"block\", KERNEL==\"sd*\", MODE=\"0660\"\n", 100) + "LABEL=\"end\"\n"
	var utf32 strings.Builder
	for _, c := range []byte(rules) {
		utf32.WriteString("\x00\x00\x00" + string(rune(c)))
	}
	for _, c := range []struct{ name, text, place, what string }{
		{"UTF-16, low byte first", utf16Of(mark+rules, false), ":1:1: ", "UTF-16"},
		{"UTF-16, high byte first", utf16Of(mark+rules, true), ":1:1: ", "UTF-16"},
		{"UTF-16 without a mark", utf16Of(rules, false), ":1:1: ", "UTF-16"},
		{"UTF-16 without a mark, high byte first", utf16Of(rules, true), ":1:1: ", "UTF-16"},
		{"UTF-32", utf32.String(), ":1:1: ", "UTF-32"},
		{"carriage returns", strings.ReplaceAll(rules, "\n", "\r"), ":1:1: ", "carriage returns"},
		{"udev's rules", udev, ":2:1: ", "udev's rules"},
		{"what a crash left", strings.Repeat("\x00", 4096), ":1:1: ", "NUL"},
		{"a crash in the midst", "sda 0:0 640\nsdb 0\x00\x00:0\n\x00\nsdc \x00 x\n", ":2:6: ", "NUL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newSandbox(t, "")
			b.write(b.conf, c.text)
			o := b.do(nil, "--check")
			if o.code != exitConfig || strings.Count(o.stdout, "\n") != 1 || !strings.HasPrefix(o.stdout, b.conf+c.place) || !strings.Contains(o.stdout, c.what) || !strings.Contains(o.stdout, "; ") {
				t.Errorf("--check: exit code %d, it says %.300q %q", o.code, o.stdout, o.stderr)
			}
			if o := b.do(nil, "-s"); o.code != exitDone || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, c.what) {
				t.Errorf("-s: it says %.300q, exit code %d", o.stderr, o.code)
			}
			b.wantNodes("sda", "sda1", "tty0")
		})
	}
	b := newSandbox(t, "")
	b.write(b.conf, mark+strings.ReplaceAll(rules, "\n", "\r\n"))
	if o := b.do(nil, "--check"); o.code != exitDone || o.stdout+o.stderr != "" {
		t.Errorf("a mark and lines as in DOS: %+v", o)
	}
}

// TestCheckLink has no config behind a link.
func TestCheckLink(t *testing.T) {
	b := newSandbox(t, "")
	hotplugtest.Must(t, os.Remove(b.conf))
	hotplugtest.Must(t, os.Symlink("nowhere", b.conf))
	if o := b.do(nil, "--check"); o.code != exitConfig || !strings.Contains(o.stderr, b.conf+" is a link to what is not there; ") || strings.Count(o.stderr, "\n") != 1 {
		t.Errorf("%+v", o)
	}
	b.write(b.dir+"/nowhere", "sda 0:0 640\n")
	if o := b.do(nil, "--check"); o.code != exitDone || o.stdout+o.stderr != "" {
		t.Errorf("a link to a file: %+v", o)
	}
}

// TestCheckDoubts shows that --check tells of what it doubts, by line and column, while
// a scan uses it without a word.
func TestCheckDoubts(t *testing.T) {
	kerneltest.NeedRoot(t)
	for _, c := range []struct{ text, place, remedy string }{
		{"sd* 0:0 640", "1:1", "write .* for any text"},
		{"tty|event* 0:0 640", "1:8", "write .* for any text"},
		{"-SUBSYSTEM==x;.* 0:0 640", "1:2", "VARIABLE=EXPR;"},
		{"-SUBSYSTEM!=x;.* 0:0 640", "1:2", "VARIABLE=EXPR;"},
		{"-Timeout=5;.* 0:0 640", "1:2", "in small letters"},
		{"# quotes\nsda 0:0 640 @true “x”", "2:14", "write that of ASCII"},
		{"–sda 0:0 640", "1:1", "write that of ASCII"},
		{"sd.* 0:0 640\n-x 0:0 640\nsda|sdb.* 0:0 640", "3:1", "move it up"},
		{"SUBSYSTEM=block;.* 0:0 640\nSUBSYSTEM=block;DEVTYPE=disk;$DEVNAME=sda 0:0 640", "2:1", "move it up"},
		{"@8,0-15 0:0 640\n@9,1 0:0 640\n@8,1 0:0 600", "3:1", "line 1 matches"},
		{"-sda 0:0 640 *foreground { true } true", "1:15", "begin it with +"},
		{"-sda 0:0 640 >x &true | true", "1:18", "begin it with @"},
	} {
		b := newSandbox(t, c.text+"\n")
		o := b.do(nil, "--check")
		if o.code != exitConfig || strings.Count(o.stdout, "\n") != 1 || !strings.HasPrefix(o.stdout, b.conf+":"+c.place+": ") || !strings.Contains(o.stdout, c.remedy) {
			t.Errorf("%s: exit code %d, it says %q %q; want %s and %q", c.text, o.code, o.stdout, o.stderr, c.place, c.remedy)
		}
		if o := b.do(nil, "-s"); strings.Contains(o.stderr, "warning: "+b.conf) {
			t.Errorf("%s: a scan says %q", c.text, o.stderr)
		}
	}
}
