// Package modules loads kernel modules in the process, as modprobe(8) does: it finds
// the modules of an alias and what they need (Tree), and gives them to the kernel in
// parallel, each one once (Loader). Tree only reads files below one root, of any
// release, so it serves a dry run and an image builder too.
//
// It never runs a shell, never decompresses a module, and never retries what failed
// unless it is told to: an install line of modprobe.d(5), and a compressed module that
// the kernel cannot read, are for the modprobe program or are refused.
package modules
