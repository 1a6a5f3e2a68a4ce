//go:build nospool

package main

// A program without the spool, for boards where nobody listens: it is smaller.
var spoolApplets []tool
