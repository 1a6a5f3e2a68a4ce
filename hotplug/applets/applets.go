// Package applets lists the programs that devspool holds besides its own work, each with
// a command line of its own. It only says where each begins. A group of them hangs on one
// file, which a build tag leaves out.
package applets

import "slices"

// Applet is one of the programs.
type Applet struct {
	Name  string // the word on devspool's command line
	Help  string // for the usage; may have several lines
	IsOwn bool   // a link of that name to devspool is the applet
	Run   func(args []string) (code int)
}

// All has every applet, in the order of the usage.
var All = slices.Concat(names, events, udev, boot)

// Find returns the applet of that name, or nil.
func Find(name string) *Applet {
	for i := range All {
		if All[i].Name == name {
			return &All[i]
		}
	}
	return nil
}
