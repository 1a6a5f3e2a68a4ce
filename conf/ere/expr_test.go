package ere

import (
	"regexp"
	"strings"
	"testing"
)

// mustParse reads an expression that is to be well-formed.
func mustParse(t testing.TB, src string, whole bool) *Expr {
	t.Helper()
	e, _, broken := Parse(src, whole)
	if broken != nil {
		t.Fatalf("%q: %+v", src, *broken)
	}
	return &e
}

func TestWholeMatch(t *testing.T) {
	for _, tt := range []struct {
		expr    string
		yes, no []string
	}{
		{"", []string{""}, []string{"a"}},
		{"sda", []string{"sda"}, []string{"sd", "sdaa", "xsda", ""}},
		{"sd|sda", []string{"sd", "sda"}, []string{"sdb", "sdaa"}},
		{"s.*|.*b", []string{"s", "sx", "b", "xb"}, []string{"xs", "bx"}},
		{"^sda$", []string{"sda"}, []string{"sda\n", "asda"}},
		{"^^sda$$", []string{"sda"}, []string{"sdaa"}},
		{"a^b|a$b", nil, []string{"ab", "a^b", "a$b", "a"}},
		{"(^a|b$)c?", []string{"a", "ac", "b"}, []string{"bc"}},
		{".*", []string{"", "a", "a/b", "a\nb", "\xff"}, nil},
		{"a.b", []string{"a/b", "a\nb", "a\xffb"}, []string{"a\u00e9b", "ab"}},
		{"tty[0-9]*", []string{"tty", "tty1", "tty12"}, []string{"ttyS", "xtty"}},
		{"snd/.*", []string{"snd/", "snd/timer"}, []string{"snd"}},
		{`[\w]`, []string{`\`, "w"}, []string{"a"}},
		{`[\]]`, []string{`\]`}, []string{"]", `\`}},
		{`[]a]`, []string{"]", "a"}, []string{"b"}},
		{`[^]a]`, []string{"b", "\n", "\xe9"}, []string{"]", "a", ""}},
		{"[a-]", []string{"a", "-"}, []string{"b"}},
		{"[+--]", []string{"+", ",", "-"}, []string{"."}},
		{"[[:digit:][:upper:]_]+", []string{"0A_"}, []string{"a", ":"}},
		{"[[=a=][.-.]]", []string{"a", "-"}, []string{"="}},
		{"[[.a.]-c]", []string{"a", "b", "c"}, []string{"."}},
		{"[[]", []string{"["}, []string{"]"}},
		{"[é]", []string{"\xc3", "\xa9"}, []string{"é"}},
		{"é*", []string{"\xc3", "é", "\xc3\xa9\xa9"}, []string{"éé"}},
		{"*a", []string{"*a"}, []string{"a"}},
		{"(*a|*b)|*c|^*d", []string{"*a", "*b", "*c", "*d"}, []string{"a"}},
		{"a)", []string{"a)"}, []string{"a"}},
		{"a]}", []string{"a]}"}, nil},
		{"a{2}", []string{"aa"}, []string{"a", "aaa"}},
		{"a{2,}", []string{"aa", "aaa"}, []string{"a"}},
		{"a{,2}", []string{"", "a", "aa"}, []string{"aaa"}},
		{"a{,}", []string{"", "a", "aaa"}, []string{"b"}},
		{"a{0}b", []string{"b"}, []string{"ab"}},
		{"a*?b", []string{"b", "aab"}, nil},
		{"(a+)?{2}", []string{"", "a", "aa"}, nil},
		{"()", []string{""}, []string{"a"}},
		{"a||b", []string{"", "a", "b"}, nil},
		{`\w\W\s\S`, []string{"a- b", "_.\vx"}, []string{"a-b "}},
		{`a\b.*`, []string{"a", "a-"}, []string{"ab"}},
		{`a\B.*`, []string{"ab"}, []string{"a", "a-"}},
		{`.*\<b\>.*`, []string{"b", "a b c"}, []string{"ab"}},
		{"\\`a\\'", []string{"a"}, []string{"b"}},
		{`usb\:v\*\.\{\(\|\\`, []string{`usb:v*.{(|\`}, nil},
		{`\d\n`, []string{"dn"}, []string{"0\n"}},
	} {
		p := mustParse(t, tt.expr, true)
		m := &Matcher{}
		for _, s := range tt.yes {
			if !m.Match(p, s) {
				t.Errorf("%q does not match %q", tt.expr, s)
			}
		}
		for _, s := range tt.no {
			if m.Match(p, s) {
				t.Errorf("%q matches %q", tt.expr, s)
			}
		}
	}
}

func TestSearch(t *testing.T) {
	for _, tt := range []struct {
		expr    string
		yes, no []string
	}{
		{"", []string{"", "a"}, nil},
		{"usb", []string{"usb", "usbmisc", "xusb"}, []string{"us"}},
		{"^usb", []string{"usb", "usbmisc"}, []string{"xusb"}},
		{"usb$", []string{"usb", "xusb"}, []string{"usbmisc"}},
		{"^usb$", []string{"usb"}, []string{"usbmisc", "xusb"}},
		{"^a|b$|c", []string{"ax", "xb", "xcx"}, []string{"xa", "bx"}},
		{"^a.*", []string{"a", "ab"}, []string{"ba"}},
		{"a.*$", []string{"a", "bab"}, []string{"b"}},
		{"^0*1", []string{"1", "0012"}, []string{"21"}},
		{"x[0-9]", []string{"ax1b"}, []string{"xa1"}},
	} {
		p := mustParse(t, tt.expr, false)
		m := &Matcher{}
		for _, s := range tt.yes {
			if !m.Match(p, s) {
				t.Errorf("%q is not found in %q", tt.expr, s)
			}
		}
		for _, s := range tt.no {
			if m.Match(p, s) {
				t.Errorf("%q is found in %q", tt.expr, s)
			}
		}
	}
}

func TestBrokenExpressions(t *testing.T) {
	for expr, offset := range map[string]int{
		"(": 0, "a(b": 1, "((a)": 0, "[": 0, "[]": 0, "[^]": 0, "x[a": 1, "[a-": 0,
		"[[:digit]": 1, "[[:nodigit:]]": 1, "[[.ab.]]": 1, "[[=": 1, "[[..]]": 1,
		"[b-a]": 1, "[a-c-e]": 4, "[[:digit:]-z]": 1, "[a-[:digit:]]": 1,
		`a\`: 1, `(a)\1`: 3, "+": 0, "?a": 0, "a|+b": 2, "(?a)": 1, "^+": 1, "{1}": 0,
		"a{": 1, "a{1": 1, "a{}": 1, "a{x}": 1, "a{2,1}": 1, "a{1,2,3}": 1, "a{ 1}": 1, "a{-1}": 1,
		"a{2001}": 1, "(a{100}){100}": 8, "ab(" + strings.Repeat("c", 70) + "){999}": 74,
		strings.Repeat("(", 60) + strings.Repeat(")", 60): 50,
	} {
		_, _, broken := Parse(expr, true)
		if broken == nil {
			t.Errorf("%q is taken", expr)
		} else if broken.Offset != offset || broken.What == "" || broken.Remedy == "" {
			t.Errorf("%q: %+v; want offset %d", expr, *broken, offset)
		}
	}
}

func TestSubmatches(t *testing.T) {
	for _, tt := range []struct{ expr, text, want string }{
		{"sda", "sda", "sda - -"},
		{"sd(.)(.)?", "sda", "sda a -"},
		{"sd(.)(.?)", "sda", "sda a "},
		{"(sd|sda)(.*)", "sdab", "sdab sd ab"},
		{"(.*)\xff(.)", "a\xe9\xff\xe9", "a\xe9\xff\xe9 a\xe9 \xe9"},
	} {
		p := mustParse(t, tt.expr, true)
		m := &Matcher{}
		if !m.Match(p, tt.text) {
			t.Errorf("%q does not match %q", tt.expr, tt.text)
			continue
		}
		var got []string
		g := m.Submatch(p, tt.text)
		for n := range 3 {
			text, took := g.Group(n)
			if !took {
				text = "-"
			}
			got = append(got, text)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%q in %q: %q; want %q", tt.expr, tt.text, got, tt.want)
		}
	}
}

// What the limits let pass runs in time and memory that are in proportion.
func TestLimits(t *testing.T) {
	for _, expr := range []string{
		strings.Repeat("(", maxDepth) + "a|b" + strings.Repeat(")*+?+?+?*", maxDepth),
		"(" + strings.Repeat("[a-z0-9]", 60) + "){30}",
		"((a{10}){10}){,10}",
		strings.Repeat("a?", maxSize/3),
		strings.Repeat("(a*)*", 100),
	} {
		p, m := mustParse(t, expr, true), &Matcher{}
		text := strings.Repeat("a", 1000) + "-"
		if m.Match(p, text) {
			t.Errorf("%.60q matches", expr)
		}
		if len(p.program) > 2*maxSize {
			t.Errorf("%.60q became %d instructions", expr, len(p.program))
		}
	}
}

// FuzzERE checks that the matcher and package regexp say the same of all that
// both take, the groups included.
func FuzzERE(f *testing.F) {
	for _, expr := range []string{
		"sd([a-z])([0-9]*)", "null|zero|.*x", `^[^]a-c[:digit:]]{1,2}$`, `(a|b*)+?\.\w`, "*a{,3}[[.-.]]", "a.*$|^b",
		"(a|ab)(c|bcd)(d*)", "((a)|b)*", "(a*)*", "(a*)+b{2,3}",
	} {
		f.Add(expr, "sda1")
		f.Add(expr, "abcd")
	}
	f.Fuzz(func(t *testing.T, src, text string) {
		_, _, broken := Parse(src, true)
		if broken != nil {
			if broken.Offset < 0 || broken.Offset > len(src) {
				t.Fatalf("%q: offset %d", src, broken.Offset)
			}
			return
		}
		tree := (&parser{src: src}).alternation()
		for _, whole := range []bool{false, true} {
			p, m := mustParse(t, src, whole), &Matcher{}
			expr := "(?s)" + golang(&tree)
			if whole {
				expr = "(?s)^(?:" + golang(&tree) + ")$"
			}
			re, err := regexp.Compile(expr)
			if err != nil {
				return // more repetitions than it takes
			}
			if re.NumSubexp() != p.groups {
				t.Fatalf("%q has %d groups, not %d", src, re.NumSubexp(), p.groups)
			}
			want := re.MatchString(runes(text))
			if got := m.Match(p, text); got != want {
				t.Fatalf("%q, whole %v, in %q: %v; %q says %v", src, whole, text, got, expr, want)
			}
			p.tree = tree
			if run := p.MayMatch(text) && m.run(p, text); run != want {
				t.Fatalf("%q, whole %v, in %q: the program says %v; %q says %v", src, whole, text, run, expr, want)
			}
		}
	})
}
