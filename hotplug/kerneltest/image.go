package kerneltest

import (
	"os"
	"path/filepath"
	"testing"
)

// Image makes a file of the size by a line of shell in which $I is its path, and returns
// what it holds. Tool names the program without which it cannot.
func Image(tb testing.TB, size int64, tool, line string) []byte {
	tb.Helper()
	Need(tb, tool)
	path := filepath.Join(tb.TempDir(), "image")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		tb.Fatal(err)
	}
	Sh(tb, "I="+path+"; "+line)
	image, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return image
}
