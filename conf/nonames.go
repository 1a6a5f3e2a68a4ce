//go:build nonames

package conf

// HasNames tells that devices get no links but those of a target, and no properties.
const HasNames = false

// nameDirectives are none, so that a config which uses one is told that there is no such directive.
var nameDirectives []directive
