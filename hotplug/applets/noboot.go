//go:build noboot

package applets

// A program without what only an early boot needs, for boards that have modprobe: it is
// smaller.
var boot []Applet
