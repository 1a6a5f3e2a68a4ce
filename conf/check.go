package conf

import (
	"strconv"
	"strings"

	"devspool/conf/ere"
)

// Check is ParseFiles for devspool --check: besides what cannot be used, Problems
// holds what can, and is hardly what its author meant.
func Check(files []File, ids IDs) *Config {
	// The expressions are read as those of rules are. A problem in one would be a fault of this
	// program.
	p := parser{warnings: make([]ere.Expr, len(warnings))}
	for i := range warnings {
		p.readExpr(&p.warnings[i], field{text: warnings[i].expr}, false)
	}
	return parse(files, ids, p.warnings)
}

// The parts of a rule in which warnings look.
const (
	inText     = 1 << iota // all but the command
	inMatch                // field 1, without a "-" before it
	inShell                // a command for the shell
	inExecline             // one for execlineb
)

// Parts of the expressions below.
const (
	plain    = `[A-Za-z0-9_/:!-]`          // what a name is made of
	unquoted = `^([^"']|"[^"]*"|'[^']*')*` // what is not in quotes, to a shell
	bare     = `^([^"]|"[^"]*")*`          // the same to execlineb
	quotes   = "“|”|„|«|»|\u00a0|\u202f|\u200b|\ufeff"
	dashes   = "‐|‑|–|—|−"
	blocks   = `background|backtick|foreground|forbacktickx|forx|ifelse|ifte|ifthenelse|multisubstitute|pipeline`
)

// warnings are what is searched for, by expressions that have a group, so that the place is
// known. They find globs, the language of udev's rules, that of the shell in place of
// execline's and the other way round, and the characters that word processors write.
var warnings = [...]struct {
	in                 uint8
	expr, what, remedy string
}{
	{inText, `(` + quotes + `|‘|’|‚|` + dashes + `)`, looks, "write that of ASCII"},
	// In a command it may be text: in quotes, or in the midst of words.
	{inShell | inExecline, unquoted + `(` + quotes + `|[ 	=](‘|’|‚|(` + dashes + `)[A-Za-z0-9–—]))`, looks, "write that of ASCII"},

	// Two equal signs, quotes (NAME, PHYS and UNIQ do have them), another operator.
	{inMatch, `(^|[;$])[A-Za-z0-9_]+=[=~]|(^|;|([^ESQ]|[^M]E|[^A]ME|VNAME|[^Y]S|[^I]Q)=)["']|(^|;)[A-Za-z_]+[^A-Za-z0-9_=;][^;]*;`,
		"is taken as it is", "write a condition as VARIABLE=EXPR; and nothing in quotes"},

	// A * that repeats nothing; one that repeats a plain character, at the end or before
	// another one, and not in a condition, which is searched for; a ? likewise. Names such
	// as vcsa*[0-9]* and mmcblk0p?[0-9]* are right.
	{inMatch, `(^|[;=(|^])\*|(^|[^\])` + plain + `\*(([|)$]|` + plain + `)[^;]*)?$|(^|[;(|=])[A-Za-z_/-]+\?([|)$][^;]*)?$`,
		"is no glob", "write .* for any text, and . for any character"},

	{inShell, `^(importas[ 	]|(` + blocks + `)[ 	].*[{])`, "is execline, behind a character for /bin/sh", "begin it with + (add), - (remove) or & (always)"},
	{inExecline, `(^|[ 	])(` + blocks + `|define|dollarat|el[a-z]+|importas|withstdinas)[ 	]`, "", ""}, // these give variables values
	{inExecline, bare + `([ 	]([|&;]|[|][|]|&&|[12]?>[^ 	]*|<<?)([ 	]|$)|;[ 	]|[$][({A-Za-z_])`, "is the shell's language, and execlineb takes it as it is",
		"begin it with @ (add), $ (remove) or * (always) for /bin/sh"},
}

const looks = "has a character that only looks like another"

// warn notes what is doubtful about a part of the line.
func (p *parser) warn(in uint8, f field) {
	for i := range warnings {
		d := &warnings[i]
		if d.in&in == 0 {
			continue
		}
		at := p.config.matcher.Index(&p.warnings[i], f.text)
		if at < 0 {
			continue
		}
		if d.what == "" {
			return // what follows is nothing to warn of then
		}
		p.problem(f.offset+at, quote(f.text[:min(len(f.text), 60)])+" "+d.what, d.remedy)
	}
}

// checkRule notes what is doubtful about the rule that was made of the line.
func (p *parser) checkRule(r *rule, match, last field) {
	end := strings.IndexAny(last.text+" ", blanks) // behind a target may be a comment
	if command := last.from(len(last.text) - len(r.command.Text)); r.when != 0 {
		end = command.offset - last.offset
		in := uint8(inShell)
		if r.command.Execline {
			in = inExecline
		}
		p.warn(in, command)
	}
	p.warn(inText, field{text: p.line.text[:last.offset+end]})
	if r.continues {
		match = match.from(1)
	}
	p.warn(inMatch, match)
	p.checkHidden(r, match)
}

// checkHidden notes a rule to which another one lets no event come.
func (p *parser) checkHidden(r *rule, match field) {
	for i, e := range p.config.rules {
		if p.hides(e, p.matches[i], r, match.text) {
			place := "line " + strconv.Itoa(e.node.Rule.Line)
			if e.node.Rule.File != p.file {
				place = e.node.Rule.String()
			}
			p.problem(match.offset, "no event reaches this rule: "+place+" matches all that it does",
				`move it up, or begin that line with "-"`)
			break
		}
	}
	p.matches = append(p.matches, match.text)
}

// hides reports whether the rule e, which is written as before, matches whatever r does,
// and lets nothing go on. It knows numbers, names, and expressions that begin with plain
// text; of all others only whether they are the same. Of a rule that matches everything checkReach
// tells.
func (p *parser) hides(e *rule, before string, r *rule, match string) bool {
	conditions := before[:strings.LastIndexByte(before, ';')+1]
	switch {
	case e.continues, before == ".*", !strings.HasPrefix(match, conditions):
		return false
	case match == before, e.matchesAll():
		return true
	case e.kind != r.kind, e.name != r.name:
		return false
	case r.kind == ofNumbers:
		return e.major == r.major && e.minor <= r.minor && r.maxMinor <= e.maxMinor
	}
	return p.config.matcher.Covers(&e.expr, &r.expr)
}
