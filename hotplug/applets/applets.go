// Package applets lists the programs that devspool holds besides its own work, each with
// a command line of its own. It only says where each begins. A group of them hangs on one
// file, which a build tag leaves out.
package applets

// Applet is one of the programs.
type Applet struct {
	Name string // the word on devspool's command line
	Help string // for the usage; may have several lines
	Run  func(args []string) (code int)
}

// All has every applet, in the order of the usage.
var All = events
