package conf

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"devspool/hotplug/uevent"
)

var update = flag.Bool("update", false, "rewrite the expected parts of testdata/*.txt")

// section is a part of a case: "-- name --" and the lines below it.
type section struct{ name, body string }

// TestScripts runs testdata/*.txt. A case has sections mdev.conf, passwd, group, sysfs
// (DEVPATH/FILE=VALUE) and root (MAJOR:MINOR) as it needs them, then for each event its variables and
// the plan that is expected. Expected problems may follow the config. A section check
// holds a config of which the warnings follow.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(text))
			if got == string(text) {
				return
			}
			if !*update {
				t.Fatalf("run with -update if this is right:\n%s", got)
			}
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// runScript returns the text of a case with what comes out in place of what is expected.
func runScript(t *testing.T, text string) string {
	head, sections := cutSections(text)
	given := map[string]string{}
	for _, s := range sections {
		given[s.name] = s.body
	}
	c := Parse("mdev.conf", given["mdev.conf"], ParseIDs(given["passwd"], given["group"]))
	if major, minor, ok := uevent.ParseNumbers(given["root"]); ok {
		c.Root = uevent.Dev{Block: true, Major: major, Minor: minor}
	}
	if attributes, there := given["sysfs"]; there {
		c.Attr = func(devpath, path string) (string, bool) {
			_, rest, is := strings.Cut("\n"+attributes, "\n"+devpath+"/"+path+"=")
			value, _, _ := strings.Cut(rest, "\n")
			return strings.ReplaceAll(value, `\n`, "\n"), is
		}
	}

	var b strings.Builder
	b.WriteString(head)
	write := func(name, body string) { b.WriteString("-- " + name + " --\n" + body) }
	for _, s := range sections {
		switch s.name {
		case "problems", "plan", "warnings":
			continue
		}
		write(s.name, s.body)
		switch s.name {
		case "mdev.conf":
			if len(c.Problems) > 0 {
				write("problems", showProblems(c.Problems))
			}
		case "check":
			write("warnings", showProblems(Check([]File{{Name: "mdev.conf", Text: s.body}}, ParseIDs(given["passwd"], given["group"])).Problems))
		case "event":
			e, err := uevent.FromEnviron(strings.Split(strings.TrimSpace(s.body), "\n"))
			if err != nil {
				t.Fatalf("%v in\n%s", err, s.body)
			}
			write("plan", c.Plan(e).String())
		}
	}
	return b.String()
}

func cutSections(text string) (head string, sections []section) {
	for line := range strings.Lines(text) {
		name, is := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "-- ")
		name, ends := strings.CutSuffix(name, " --")
		switch {
		case is && ends:
			sections = append(sections, section{name: name})
		case len(sections) == 0:
			head += line
		default:
			sections[len(sections)-1].body += line
		}
	}
	return head, sections
}

func showProblems(problems []Problem) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.String() + "\n")
	}
	return b.String()
}
