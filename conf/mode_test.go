package conf

import "testing"

// These are the results of BusyBox's chmod for a file of mode 0660 under umask 0.
// That of coreutils differs for o+t, and refuses a comma too many.
func TestParseMode(t *testing.T) {
	for _, tt := range []struct {
		text string
		want uint32
		bad  bool
	}{
		{text: "660", want: 0o660},
		{text: "0", want: 0},
		{text: "0666", want: 0o666},
		{text: "00004755", want: 0o4755},
		{text: "7777", want: 0o7777},
		{text: "10000", bad: true},
		{text: "8", bad: true},
		{text: "66x", bad: true},
		{text: "0x1ff", bad: true},
		{text: "6_6", bad: true},
		{text: "", bad: true},
		{text: "o+r", want: 0o664},
		{text: "+r", want: 0o664},
		{text: "a=r", want: 0o444},
		{text: "=rw", want: 0o666},
		{text: "=", want: 0},
		{text: "a=", want: 0},
		{text: "go=", want: 0o600},
		{text: "ug=rw,o=", want: 0o660},
		{text: "u=rw,go=r", want: 0o644},
		{text: "a-w,u+w", want: 0o640},
		{text: "u=rw,g=r,o=r", want: 0o644},
		{text: "u+rw-x", want: 0o660},
		{text: "+r-w", want: 0o444},
		{text: "u=+x", want: 0o160},
		{text: "+X", want: 0o660},
		{text: "u+x,g+X", want: 0o770},
		{text: "u=g", want: 0o660},
		{text: "o=u,u=", want: 0o066},
		{text: "g=o,o=u", want: 0o606},
		{text: "u=rwx,g=u-w", want: 0o750},
		{text: "ug+s", want: 0o6660},
		{text: "o+s", want: 0o660},
		{text: "+t", want: 0o1660},
		{text: "u+t", want: 0o660},
		{text: "u+", want: 0o660},
		{text: "u", bad: true},
		{text: "u=gx", bad: true},
		{text: "u=ur", bad: true},
		{text: "u+q", bad: true},
		{text: "rw", bad: true},
		{text: ",o+r", want: 0o664},
		{text: "o+r,", want: 0o664},
		{text: "o+r,,o-r", want: 0o660},
		{text: "o+r,x", bad: true},
		{text: "o+t", want: 0o660},
		{text: "X", bad: true},
	} {
		got, ok := parseMode(tt.text)
		if ok == tt.bad || ok && got != tt.want {
			t.Errorf("%q: %#o, %v; want %#o", tt.text, got, ok, tt.want)
		}
	}
}
