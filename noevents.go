//go:build nospool

package main

import "devspool/hotplug"

// A program without the spool, for boards where nobody listens: it is smaller.

const hasSpool = false

var applets map[string]func(args []string) int

func publish(*hotplug.Road, options) (end func()) { return func() {} }
