// Package pieces finds the files of a config: the pieces that packages and the system bring, and
// the file that comes after them. It never reads one, and never says what is in force of it.
package pieces

import (
	"strings"

	"devspool/hotplug/sys"
)

// Main is the file of the system's config.
const Main = "/etc/mdev.conf"

// shipped is where packages put their pieces of it.
const shipped = "/usr/lib/mdev.conf.d"

// Max is how many pieces a config may have. The limit is far above any need, and bounds the time
// of each start of a helper.
const Max = 200

// suffix ends the name of each piece: what editors and package managers leave has another end.
const suffix = ".conf"

// Dirs returns the directories that hold the pieces of the config in file, a clean absolute path:
// FILE.d, and for the system's config that of packages. The first one hides what has the same
// name in the second.
func Dirs(file string) []string {
	if file == Main {
		return []string{file + ".d", shipped}
	}
	return []string{file + ".d"}
}

// Files returns the paths of all files of the config in file, in the order in which they are read:
// its pieces in the order of their names, and file itself. It stops at more than Max.
func Files(file string) []string {
	all := []string{file}
	for _, dir := range Dirs(file) {
		for _, base := range sys.ReadDir(dir) {
			at, last := 0, len(all)-1
			// file itself stays at the end, whatever its name.
			for at < last && name(all[at]) < base {
				at++
			}
			isHidden := at < last && name(all[at]) == base
			if isHidden || !strings.HasSuffix(base, suffix) || base[0] == '.' || last > Max {
				continue
			}
			all = append(all, "")
			copy(all[at+1:], all[at:])
			all[at] = dir + "/" + base
		}
	}
	return all
}

// name returns the last part of a path: pieces are ordered, and hide each other, by it.
func name(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
