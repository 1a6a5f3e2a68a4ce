package hotplugtest

import (
	"path/filepath"
	"strings"
	"testing"

	"devspool/hotplug/log"
)

// Log is a log.Logger whose lines the test can read. Several goroutines may use it.
type Log struct {
	*log.Logger
	t    *testing.T
	path string
}

// NewLog returns an empty Log.
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

// Lines returns the lines of the log: the level and the message, without the time and the
// name of the program.
func (l *Log) Lines() []string {
	l.t.Helper()
	var lines []string
	for line := range strings.Lines(Contents(l.t, l.path)) {
		_, line, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " devspool: ")
		if !ok {
			l.t.Errorf("not a line of the log: %q", line)
		}
		lines = append(lines, line)
	}
	return lines
}

// Has reports whether one line contains all of the words.
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

// Want fails the test where no line contains all of the words.
func (l *Log) Want(words ...string) {
	l.t.Helper()
	if !l.Has(words...) {
		l.t.Errorf("no line of the log contains %q:\n%s", words, strings.Join(l.Lines(), "\n"))
	}
}
