//go:build completions

package main

import (
	"fmt"
	"os"
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

// shown calls f with each option that is for people: its letter and its long name, with dashes and
// maybe empty, what its argument is called, or "", and its help in one line.
func shown(f func(letter, long, arg, help string)) {
	for i := range table {
		o := &table[i]
		if o.Help == "" {
			continue
		}
		letter, long, arg := o.Split()
		short := ""
		if letter != 0 {
			short = "-" + string(letter)
		}
		if long != "" {
			long = "--" + long
		}
		f(short, long, strings.Trim(arg, " []="), oneLine(o.Help))
	}
}

// oneLine returns a help text without its line breaks, which are for the columns of the usage.
func oneLine(help string) string { return strings.ReplaceAll(help, "\n", " ") }

// word is a word of the command line that is no option.
type word struct{ name, help string }

// words returns the first words that there are, and those behind "ctl".
func words() (first, ctl []word) {
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
	for _, a := range applets.All {
		first = append(first, word{a.Name, oneLine(a.Help)})
	}
	return first, ctl
}

// names returns the words alone, as bash wants them.
func names(words []word) string {
	var all []string
	for _, w := range words {
		all = append(all, w.name)
	}
	return strings.Join(all, " ")
}

// bash returns the completion for bash, which has no help texts. It serves bash-completion's
// lazy loading and a plain source alike.
func bash() string {
	first, ctl := words()
	var options, files, dirs, others []string
	shown(func(letter, long, arg, _ string) {
		var both []string
		for _, name := range []string{letter, long} {
			if name != "" {
				both = append(both, name)
			}
		}
		options = append(options, both...)
		switch arg {
		case "":
		case "FILE", "DEVICE":
			files = append(files, both...)
		case "DIR":
			dirs = append(dirs, both...)
		default:
			others = append(others, both...)
		}
	})
	list := func(names []string) string { return strings.Join(names, "|") }
	return `_devspool() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
	COMPREPLY=()
	case $prev in
	` + list(files) + `) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")); return ;;
	` + list(dirs) + `) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$cur")); return ;;
	` + list(others) + `) return ;;
	ctl) COMPREPLY=($(compgen -W "` + names(ctl) + `" -- "$cur")); return ;;
	esac
	case $cur in
	-*) COMPREPLY=($(compgen -W "` + strings.Join(options, " ") + `" -- "$cur")) ;;
	*) [ "$COMP_CWORD" -gt 1 ] || COMPREPLY=($(compgen -W "` + names(first) + `" -- "$cur")) ;;
	esac
}
complete -F _devspool devspool mdev
`
}

// zsh returns the completion for zsh, an argument of _arguments for each option. An option that
// has a letter and a long name is given twice, each time excluding both.
func zsh() string {
	first, ctl := words()
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	// In a specification of _arguments these characters have a meaning.
	escape := strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`).Replace
	var b strings.Builder
	b.WriteString("#compdef devspool mdev\n_devspool() {\n\tlocal -a first ctl\n")
	lists := []struct {
		name  string
		words []word
	}{{"first", first}, {"ctl", ctl}}
	for _, list := range lists {
		b.WriteString("\t" + list.name + "=(")
		for _, w := range list.words {
			b.WriteString(" " + quote(w.name+":"+w.help))
		}
		b.WriteString(" )\n")
	}
	b.WriteString("\t_arguments -s \\\n")
	shown(func(letter, long, arg, help string) {
		action := ""
		switch arg {
		case "":
		case "FILE", "DEVICE":
			action = ":" + arg + ":_files"
		case "DIR":
			action = ":" + arg + ":_directories"
		default:
			action = ":" + arg + ": "
		}
		for _, name := range []string{letter, long} {
			if name != "" {
				b.WriteString("\t\t" + quote("("+strings.TrimSpace(letter+" "+long)+")"+name+"["+escape(help)+"]"+action) + " \\\n")
			}
		}
	})
	b.WriteString("\t\t'1:word:{_describe word first}' \\\n\t\t'2:request:{[[ $words[2] = ctl ]] && _describe request ctl}'\n}\n")
	// From fpath the file is the function's body, and has to call it; else it is sourced.
	b.WriteString("if [ \"$funcstack[1]\" = _devspool ]; then _devspool \"$@\"; else compdef _devspool devspool mdev; fi\n")
	return b.String()
}

// fish returns the completion for fish, a command for each option and word, for both names of
// the program.
func fish() string {
	first, ctl := words()
	quote := func(s string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
	}
	var b strings.Builder
	for _, program := range []string{"devspool", "mdev"} {
		complete := "complete -c " + program + " "
		b.WriteString(complete + "-f\n")
		shown(func(letter, long, arg, help string) {
			line := complete
			if letter != "" {
				line += "-s " + letter[1:] + " "
			}
			if long != "" {
				line += "-l " + long[2:] + " "
			}
			switch arg {
			case "":
			case "FILE", "DEVICE", "DIR":
				line += "-r -F "
			default:
				line += "-x "
			}
			b.WriteString(line + "-d " + quote(help) + "\n")
		})
		for _, w := range first {
			b.WriteString(complete + "-n __fish_use_subcommand -a " + w.name + " -d " + quote(w.help) + "\n")
		}
		for _, w := range ctl {
			b.WriteString(complete + "-n '__fish_seen_subcommand_from ctl' -a " + w.name + " -d " + quote(w.help) + "\n")
		}
	}
	return b.String()
}
