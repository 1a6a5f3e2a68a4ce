//go:build nonames

package applets

// A program without names, for boards that need none: it is smaller.
var names []Applet
