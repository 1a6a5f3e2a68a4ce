//go:build race

package modules

const underRace = true
