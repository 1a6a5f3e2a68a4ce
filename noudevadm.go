//go:build noudev

package main

var udevApplets []tool

func asUdevd(args []string) []string { return args }
