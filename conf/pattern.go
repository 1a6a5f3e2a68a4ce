package conf

// pattern is an expression in its place in a rule. Its program is made when
// plain comparisons leave the answer open for the first time.
type pattern struct {
	ere
	whole   bool // it must match all of the text; else it is searched for
	program program
}

// mayMatch reports false where s cannot match p, found without a program.
func (p *pattern) mayMatch(s string) bool {
	if p.whole && (s == "" && !p.empty || s != "" && !p.first.has(s[0])) {
		return false
	}
	for i := range p.branches {
		if p.branches[i].mayMatch(s, p.whole) {
			return true
		}
	}
	return false
}

// matches reports whether s matches p.
func (c *Config) matches(p *pattern, s string) bool {
	return p.mayMatch(s) && (p.plain || c.run(p, s))
}

func (c *Config) run(p *pattern, s string) bool {
	if p.program == nil {
		p.program = compile(&p.tree)
	}
	return c.matcher.match(p.program, s, p.whole, p.groups)
}

// submatch returns what the groups of p hold in s, all of which it matches.
func (c *Config) submatch(p *pattern, s string) submatch {
	g := submatch{text: s, places: []int{0, len(s)}}
	if !p.plain && c.run(p, s) {
		g.places = append([]int(nil), c.matcher.places...)
	}
	return g
}

// submatch holds what the groups of a pattern matched.
type submatch struct {
	text   string
	places []int // of each group begin and end, or -1
}

// get returns group n, and whether it took part in the match.
func (g *submatch) get(n int) (string, bool) {
	if 2*n+1 >= len(g.places) || g.places[2*n] < 0 || g.places[2*n+1] < 0 {
		return "", false
	}
	return g.text[g.places[2*n]:g.places[2*n+1]], true
}
