//go:build nospool

package main

import (
	"devspool/hotplug/log"
	"devspool/hotplug/scheduler"
)

// A program without the spool, for boards where nobody listens: it is smaller.

const hasSpool = false

var applets map[string]func(args []string) int

func publish(options, *log.Logger) (sink *scheduler.Sink, end func(stopped bool)) {
	return nil, func(bool) {}
}
