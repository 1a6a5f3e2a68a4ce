//go:build completions

package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"devspool/hotplug/applets"
	"devspool/hotplug/control"
)

// With this tag the program is not devspool, but what make runs to write the completions of a
// shell, from the tables that devspool reads its command line by. So they cannot be stale, and the
// program that is shipped knows nothing of them.
func init() {
	shells := map[string]func() string{"bash": bash, "zsh": zsh, "fish": fish}
	if len(os.Args) != 2 || shells[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: go run -tags completions . bash | zsh | fish")
		os.Exit(exitUsage)
	}
	fmt.Print(shells[os.Args[1]]())
	os.Exit(exitDone)
}

// option is an option that is for people: its letter and its long name, with dashes and maybe empty,
// what its argument is called, with the space, bracket or equals sign before it, or "", and its help
// in one line.
type option struct{ letter, long, arg, help string }

// The kinds of what an argument is completed to.
const (
	noArgument = iota
	files
	directories
	other // not known here
)

// kind goes by what the table and the tools' help call the argument. Of any other name a shell cannot
// know what may stand there.
func (o option) kind() int {
	switch strings.Trim(o.arg, " []=") {
	case "":
		return noArgument
	case "FILE", "DEVICE":
		return files
	case "DIR":
		return directories
	}
	return other
}

// isOptional reports whether the argument can only be a part of the same word, --libudev=DIR.
func (o option) isOptional() bool { return strings.HasPrefix(o.arg, "[=") }

// isOperand reports whether the argument can only be a word of its own, --plan DEVICE.
func (o option) isOperand() bool { return strings.HasPrefix(o.arg, " [") }

// names returns what the option can be given as, its letter first.
func (o option) names() []string {
	return slices.DeleteFunc([]string{o.letter, o.long}, func(name string) bool { return name == "" })
}

// oneLine returns a help text without its line breaks, which are for the columns of the usage.
func oneLine(help string) string { return strings.ReplaceAll(help, "\n", " ") }

// mainOptions returns the options of devspool itself.
func mainOptions() (all []option) {
	for i := range table {
		o := &table[i]
		if o.Help == "" {
			continue
		}
		letter, long, arg := o.Split()
		shown := option{arg: arg, help: oneLine(o.Help)}
		if letter != 0 {
			shown.letter = "-" + string(letter)
		}
		if long != "" {
			shown.long = "--" + long
		}
		all = append(all, shown)
	}
	return all
}

// word is a word of the command line that is no option.
type word struct{ name, help string }

// requests returns the words that ask a loop, and those behind "ctl".
func requests() (first, ctl []word) {
	first = []word{{"ctl", "steer a running loop"}}
	for i := range control.Requests {
		r := &control.Requests[i]
		if r.Word {
			first = append(first, word{r.Name, oneLine(r.Help)})
		}
		if r.Ctl {
			ctl = append(ctl, word{r.Name, oneLine(r.Help)})
		}
	}
	return first, ctl
}

// tool is an applet, which has options of its own.
type tool struct {
	word
	words   []string
	options []option
}

// What a tool's help says of its words and options.
// They match the lines that the applets' usages have now; an option in a line of another form is not
// completed.
var (
	toolWord    = regexp.MustCompile(`(?m)^  (?:devspool event )?([a-z]+)(?: \[.*|  +\S.*)$`)
	toolOption  = regexp.MustCompile(`(?m)^ +(-\w)?(?:, )?(--[a-z-]+)?([ =\[][A-Z]\S*)? +(\S.*)$`)
	toolOptions = regexp.MustCompile(`(?m)^options:( --.*)$`)
)

// tools returns the applets. Their options are what their help says. None is asked of init, which
// the kernel calls.
func tools() (all []tool) {
	for _, a := range applets.All {
		t := tool{word: word{a.Name, oneLine(a.Help)}}
		if a.Name != "init" {
			help := helpOf(&a)
			for _, m := range toolWord.FindAllStringSubmatch(help, -1) {
				if m[1] != a.Name {
					t.words = append(t.words, m[1])
					help += helpOf(&a, m[1])
				}
			}
			for _, m := range toolOption.FindAllStringSubmatch(help, -1) {
				if strings.HasPrefix(m[4], "-") { // a second option in the line
					m[4] = ""
				}
				t.add(option{m[1], m[2], m[3], m[4]})
			}
			for _, m := range toolOptions.FindAllStringSubmatch(help, -1) {
				for _, long := range strings.Fields(m[1]) {
					t.add(option{long: long})
				}
			}
			t.add(option{"-h", "--help", "", "print what it takes"})
		}
		all = append(all, t)
	}
	return all
}

// add adds an option that t has not yet.
func (t *tool) add(o option) {
	if len(o.names()) > 0 && !slices.ContainsFunc(t.options, func(other option) bool { return other.letter == o.letter && other.long == o.long }) {
		t.options = append(t.options, o)
	}
}

// helpOf returns the help of an applet, or of a word of it.
// An applet writes it to os.Stdout, for which a pipe stands meanwhile: so no two calls may be under way
// at once. The applet runs in a goroutine, as its help may be longer than a pipe holds.
func helpOf(a *applets.Applet, words ...string) string {
	out := os.Stdout
	defer func() { os.Stdout = out }()
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	os.Stdout = w
	go func() {
		a.Run(append(words, "--help"))
		w.Close()
	}()
	text, err := io.ReadAll(r)
	if err != nil || len(text) == 0 {
		panic(fmt.Sprint("no help of ", a.Name, words, err))
	}
	return string(text)
}

// names returns the words alone, as bash wants them.
func names[T any](words []T, name func(T) string) string {
	var all []string
	for _, w := range words {
		all = append(all, name(w))
	}
	return strings.Join(all, " ")
}

// bash returns the completion for bash, which has no help texts. It serves bash-completion's
// lazy loading and a plain source alike. Where nothing in it fits, Readline looks for a file.
func bash() string {
	first, ctl := requests()
	name := func(w word) string { return w.name }
	requested := names(first, name)
	var options, arguments [other + 1]string // by kind: patterns
	add := func(to *string, separator, text string) {
		if *to != "" {
			*to += separator
		}
		*to += text
	}
	var cases, toolNames string
	every := func(tool string, all []option) {
		var list string
		for _, o := range all {
			for _, n := range o.names() {
				add(&list, " ", n)
				if !o.isOptional() {
					add(&options[o.kind()], "|", tool+":"+n)
				}
				if !o.isOperand() {
					add(&arguments[o.kind()], "|", tool+":"+n)
				}
			}
		}
		cases += "\t" + tool + ":-*) COMPREPLY=($(compgen -W \"" + list + "\" -- \"$cur\")) ;;\n"
	}
	every("", mainOptions())
	for _, t := range tools() {
		add(&toolNames, " ", t.name)
		every(t.name, t.options)
		if len(t.words) > 0 {
			cases += "\t" + t.name + ":*) [ \"$prev\" != " + t.name + " ] || COMPREPLY=($(compgen -W \"" + strings.Join(t.words, " ") + "\" -- \"$cur\")) ;;\n"
		}
	}
	return `_devspool() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} tool= word= joined= w
	COMPREPLY=()
	for w in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		case $w in
		` + strings.ReplaceAll(toolNames, " ", "|") + `) tool=$w word=$w; break ;;
		` + strings.ReplaceAll(requested, " ", "|") + `) word=$w; break ;;
		esac
	done
	# Readline splits --conf=FILE into three words.
	if [ "$cur" = = ]; then
		cur= joined=yes
	elif [ "$prev" = = ]; then
		prev=${COMP_WORDS[COMP_CWORD-2]} joined=yes
	fi
	if [ "$joined" ]; then case $tool:$prev in
	` + arguments[files] + `) prev=FILE ;;
	` + arguments[directories] + `) prev=DIR ;;
	*) return ;;
	esac; else case $tool:$prev in
	` + options[files] + `) prev=FILE ;;
	` + options[directories] + `) prev=DIR ;;
	` + options[other] + `) return ;;
	esac; fi
	case $prev in
	FILE) compopt -o filenames -o default 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
	DIR) compopt -o filenames -o dirnames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
	ctl) COMPREPLY=($(compgen -W "` + names(ctl, name) + `" -- "$cur")); return ;;
	esac
	case $tool:$cur in
` + cases + `	*) case $word in
		'') COMPREPLY=($(compgen -W "` + requested + " " + toolNames + `" -- "$cur")) ;;
		wait|info) compopt -o filenames -o default 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
		esac ;;
	esac
}
complete -F _devspool devspool mdev
`
}

// zsh returns the completion for zsh, an argument of _arguments for each option. An option that
// has a letter and a long name is given twice, each time excluding both.
func zsh() string {
	first, ctl := requests()
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	// In a specification of _arguments these characters have a meaning.
	escape := strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`).Replace
	var b strings.Builder
	arguments := func(indent string, options []option) {
		b.WriteString(indent + "_arguments -s \\\n")
		for _, o := range options {
			action := [...]string{noArgument: "", files: ":file:_files", directories: ":directory:_directories", other: ":argument: "}[o.kind()]
			for _, name := range o.names() {
				spec := name
				switch {
				case action == "" || o.isOperand():
				case o.isOptional():
					spec, action = name+"=-", ":"+action
				case name == o.long:
					spec += "="
				default:
					spec += "+"
				}
				b.WriteString(indent + "\t" + quote("("+strings.Join(o.names(), " ")+")"+spec+"["+escape(o.help)+"]"+action) + " \\\n")
			}
		}
	}
	all := tools()
	b.WriteString("#compdef devspool mdev\n_devspool() {\n\tlocal -a first ctl\n\tlocal word w\n")
	firstAndTools := slices.Clone(first)
	for _, t := range all {
		firstAndTools = append(firstAndTools, t.word)
	}
	lists := []struct {
		name  string
		words []word
	}{{"first", firstAndTools}, {"ctl", ctl}}
	for _, list := range lists {
		b.WriteString("\t" + list.name + "=(")
		for _, w := range list.words {
			b.WriteString(" " + quote(w.name+":"+escape(w.help)))
		}
		b.WriteString(" )\n")
	}
	b.WriteString("\tfor w in ${words[2,CURRENT-1]}; do [[ -z $word && -n ${(M)first:#$w:*} ]] && word=$w; done\n\tcase $word in\n")
	for _, t := range all {
		b.WriteString("\t" + t.name + ")\n")
		arguments("\t\t", t.options)
		b.WriteString("\t\t\t'1:word: ' ")
		if len(t.words) > 0 {
			b.WriteString(quote("2:word:(" + strings.Join(t.words, " ") + ")"))
		}
		b.WriteString(" '*:argument:_files' ;;\n")
	}
	b.WriteString("\t*)\n")
	arguments("\t\t", mainOptions())
	b.WriteString("\t\t\t'1:word:{_describe word first}' '2:request:{if [[ $word = ctl ]]; then _describe request ctl; elif [[ $word = wait ]]; then _files; fi}' \\\n" +
		"\t\t\t'*:device:{[[ $word = wait ]] && _files}' ;;\n\tesac\n}\n")
	// From fpath the file is the function's body, and has to call it; else it is sourced.
	b.WriteString("if [ \"$funcstack[1]\" = _devspool ]; then _devspool \"$@\"; else compdef _devspool devspool mdev; fi\n")
	return b.String()
}

// fish returns the completion for fish, a command for each option and word, for both names of
// the program.
func fish() string {
	first, ctl := requests()
	quote := func(s string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
	}
	var b strings.Builder
	all := tools()
	toolNames := names(all, func(t tool) string { return t.name })
	for _, program := range []string{"devspool", "mdev"} {
		complete := "complete -c " + program + " "
		options := func(condition string, options []option) {
			for _, o := range options {
				line := complete + "-n " + quote(condition) + " "
				if o.letter != "" {
					line += "-s " + o.letter[1:] + " "
				}
				if o.long != "" {
					line += "-l " + o.long[2:] + " "
				}
				switch kind := o.kind(); {
				case kind == noArgument || o.isOptional():
				case kind == other:
					line += "-x "
				default:
					line += "-r -F "
				}
				b.WriteString(line + "-d " + quote(o.help) + "\n")
			}
		}
		words := func(words []word) {
			for _, w := range words {
				b.WriteString(complete + "-n __fish_use_subcommand -a " + w.name + " -d " + quote(w.help) + "\n")
			}
		}
		b.WriteString(complete + "-f\n")
		options("not __fish_seen_subcommand_from "+toolNames, mainOptions())
		words(first)
		for _, w := range ctl {
			b.WriteString(complete + "-n '__fish_seen_subcommand_from ctl' -a " + w.name + " -d " + quote(w.help) + "\n")
		}
		b.WriteString(complete + "-n '__fish_seen_subcommand_from wait info' -F\n")
		for _, t := range all {
			words([]word{t.word})
			options("__fish_seen_subcommand_from "+t.name, t.options)
			if len(t.words) > 0 {
				list := strings.Join(t.words, " ")
				b.WriteString(complete + "-n '__fish_seen_subcommand_from " + t.name + "; and not __fish_seen_subcommand_from " + list + "' -a '" + list + "'\n")
			}
		}
	}
	return b.String()
}
