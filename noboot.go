//go:build noboot

package main

// A program without what only an early boot needs, for boards that have modprobe: it is
// smaller.

var bootApplets []tool
