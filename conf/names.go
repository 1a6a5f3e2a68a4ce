//go:build !nonames

package conf

import (
	"strconv"
	"strings"

	"devspool/conf/ere"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// HasNames tells that devices get links and properties by what they are, and by the rules that
// ask for these.
const HasNames = true

// nameDirectives are about links, properties and attributes.
var nameDirectives = []directive{
	{"link", inRule, parseLink, "use a path below /dev; besides letters and digits it may have #+-.:=@_ and %0 to %9 and $VARIABLE"},
	{"prio", inRule, parsePriority, "use a number"},
	{"names", inRule | inDefaults, parseNames, "use no"},
	{"name", inRule, parseName, "use up to 15 bytes of letters, digits and #+-.=@_, or $VARIABLE"},
	{"property", inRule, parseProperty, "use NAME:VALUE, the name in upper case and not one that the kernel gives an event"},
	{"if_attr", inRule, parseAttr, "use PATH:EXPR, with a path in /sys from the device's directory on, such as vendor or ../serial"},
}

// parseLink reads the template of a link's path below /dev. What %0 or $VARIABLE put into it
// is checked again when it is known.
func parseLink(r *rule, value string) bool {
	if !isTemplate(value) || nodes.Refusal(value) != "" {
		return false
	}
	r.links = append(r.links, value)
	return true
}

// parsePriority reads a number, which may be negative. 0 is not the same as none: it takes the
// place of what the device deserves.
func parsePriority(r *rule, value string) bool {
	n, err := strconv.ParseInt(value, 10, 32)
	r.priority, r.hasPriority = int(n), err == nil
	return r.hasPriority
}

// parseNames reads "no". There is no yes, since names are the default, and rules for one device
// do not undo what is said of all.
func parseNames(r *rule, value string) bool {
	r.noNames = value == "no"
	return r.noNames
}

// parseName reads the template of an interface's name. One without references must be a valid
// name by itself.
func parseName(r *rule, value string) bool {
	if !isTemplate(value) || !hasReferences(value) && !isInterface(value) {
		return false
	}
	r.rename = value
	return true
}

// parseProperty reads NAME:VALUE. In VALUE \xNN stands for a byte, such as a blank.
func parseProperty(r *rule, value string) bool {
	key, text, _ := strings.Cut(value, ":")
	if variable(key) != key || key == "" || len(key) == len(value) || text != "" && !isTemplateOf(text, harmless+`\`) || strings.Contains(ofKernel, " "+key+" ") {
		return false
	}
	text = uevent.Unescape(text)
	for i := range len(text) {
		if text[i] < ' ' {
			return false
		}
	}
	r.properties = append(r.properties, key+"="+text)
	return true
}

// ofKernel are the variables that say which event it is, and those that tell of what was
// done: no property has such a name.
const ofKernel = " ACTION DEVPATH SUBSYSTEM SEQNUM DEVNAME MAJOR MINOR DEVMODE DEVUID DEVGID FIRMWARE DEVLINKS TAGS MDEV PATH "

// parseAttr reads PATH:EXPR. PATH may climb by ../ to the devices above, at its begin only.
func parseAttr(r *rule, value string) bool {
	path, expr, both := strings.Cut(value, ":")
	below := path
	for strings.HasPrefix(below, "../") {
		below = below[len("../"):]
	}
	e, _, err := ere.Parse(expr, false)
	if !both || nodes.BadPath(below) != "" || err != nil {
		return false
	}
	r.attributes = append(r.attributes, condition{path, e})
	return true
}
