//go:build noudev

package applets

// A program without libudev's side: it is smaller.
var udev []Applet
