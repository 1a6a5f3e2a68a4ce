//go:build nonames

package conf

// HasNames tells that devices get no links but those of a target, and no properties.
const HasNames = false

var nameDirectives []directive
