//go:build nospool

package applets

// A program without the spool, for boards where nobody listens: it is smaller.
var events []Applet
