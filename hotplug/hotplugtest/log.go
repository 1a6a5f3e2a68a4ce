package hotplugtest

import (
	"path/filepath"
	"strings"
	"testing"

	"devspool/hotplug/log"
)

// Log is a Log whose lines a test can read. It is safe for several goroutines.
type Log struct {
	*log.Logger
	t    *testing.T
	path string
}

func NewLog(t *testing.T) *Log {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	WriteFile(t, path, "")
	logger := log.File(path, 7)
	if logger == nil {
		t.Fatal("no log")
	}
	return &Log{logger, t, path}
}

// lines returns what was logged, without what each line begins with.
func (l *Log) Lines() []string {
	l.t.Helper()
	var lines []string
	for line := range strings.Lines(Contents(l.t, l.path)) {
		_, line, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " devspool: ")
		if !ok {
			l.t.Errorf("a line that is none of the log's: %q", line)
		}
		lines = append(lines, line)
	}
	return lines
}

// Has reports whether a line holds all the words.
func (l *Log) Has(words ...string) bool {
	l.t.Helper()
	for _, line := range l.Lines() {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			return true
		}
	}
	return false
}

// Want fails the test where no line holds all the words.
func (l *Log) Want(words ...string) {
	l.t.Helper()
	if !l.Has(words...) {
		l.t.Errorf("no line of the log holds %q:\n%s", words, strings.Join(l.Lines(), "\n"))
	}
}
