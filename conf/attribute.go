package conf

import (
	"strings"

	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// maxSet is how long the value of an attribute may be, in bytes: sysfs takes a page.
const maxSet = 4096

// parseSet reads PATH:VALUE. In VALUE \xNN stands for a byte, since it cannot hold a blank or a
// semicolon.
func parseSet(r *rule, value string) bool {
	path, text, _ := strings.Cut(value, ":")
	text = uevent.Unescape(text)
	return text != "" && len(text) <= maxSet && r.addAttribute(path, text, 0)
}

// parseSetMode reads PATH:MODE. The owner is that of the rule.
func parseSetMode(r *rule, value string) bool {
	path, text, _ := strings.Cut(value, ":")
	mode, ok := parseMode(text)
	return ok && mode <= 0o777 && r.addAttribute(path, "", mode)
}

// addAttribute adds what a directive asks for, unless its path could lead out of the device's
// directory. The owner is that of field 2, which is read later.
func (r *rule) addAttribute(path, value string, mode uint32) bool {
	if nodes.BadPath(path) != "" {
		return false
	}
	r.sets = append(r.sets, &nodes.Attribute{Path: path, Value: value, Mode: mode, Rule: r.node.Rule})
	return true
}
