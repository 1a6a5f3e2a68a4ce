package sysfs

// What the tests reach that no other package does.
var (
	DevpathOf = devpathOf
	IsLinkTo  = isLinkTo
)
