package hotplug

import (
	"devspool/conf"
	"devspool/hotplug/handoff"
)

// rooms has the parts of the program that a build tag can leave out.
var rooms = [...]struct {
	name string
	in   bool
}{
	{"spool", HasSpool}, {"names", conf.HasNames}, {"udev", HasUdev}, {"boot", HasModules},
}

// Build says what the program was built with, as the version shows it: the rooms that are in, and
// whether a helper hands its event over before the runtime starts, which a linker that was given
// other flags takes away without a word.
func Build() string {
	text := ""
	for i := range rooms {
		if rooms[i].in {
			text += rooms[i].name + ", "
		}
	}
	if handoff.IsEntry() {
		return text + "hand-off"
	}
	return text + "no hand-off"
}
