//go:build nonames

package main

// A program without names, for boards that need none: it is smaller.
var nameApplets []tool
