package conf

import (
	"strings"

	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// maxValue is how long the value of an attribute may be, in bytes: sysfs takes a page.
const maxValue = 4096

// parseAttr reads PATH:VALUE. In VALUE \xNN stands for a byte, since it cannot hold a blank or a
// semicolon.
func parseAttr(r *rule, value string) bool {
	path, text, _ := strings.Cut(value, ":")
	text = uevent.Unescape(text)
	return text != "" && len(text) <= maxValue && r.addAttribute(path, text, 0)
}

// parseAttrMode reads PATH:MODE. The owner is that of the rule.
func parseAttrMode(r *rule, value string) bool {
	path, text, _ := strings.Cut(value, ":")
	mode, ok := parseMode(text)
	return ok && mode <= 0o777 && r.addAttribute(path, "", mode)
}

func (r *rule) addAttribute(path, value string, mode uint32) bool {
	if nodes.BadPath(path) != "" {
		return false
	}
	r.attributes = append(r.attributes, &nodes.Attribute{Path: path, Value: value, Mode: mode, Rule: r.node.Rule})
	return true
}
