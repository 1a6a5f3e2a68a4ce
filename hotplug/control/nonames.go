//go:build nonames

package control

const hasNames = false

func encode(text string) string { return text }
