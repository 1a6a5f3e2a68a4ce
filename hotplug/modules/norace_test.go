//go:build !race

package modules

// underRace tells that the race detector is on, which takes ten times as long.
const underRace = false
