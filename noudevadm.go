//go:build noudev

package main

var udevApplets []tool
