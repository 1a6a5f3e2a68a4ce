// Package pieces finds the files of a config: the pieces that packages and the system bring, and
// the file that comes after them. It never reads one, and never says what is in force of it.
package pieces

import (
	"slices"
	"strings"

	"devspool/hotplug/sys"
)

// Main is the file of the system's config.
const Main = "/etc/mdev.conf"

// shipped is where packages put their pieces of it.
const shipped = "/usr/lib/mdev.conf.d"

// Max is how many pieces a config may have.
const Max = 200

// suffix ends the name of each piece: what editors and package managers leave has another end.
const suffix = ".conf"

// Dirs returns the directories that hold the pieces of the config in file, a clean absolute path:
// FILE.d, and before it, of the system's config, that of packages. A later one hides what has
// the same name in an earlier one.
func Dirs(file string) []string {
	if file == Main {
		return []string{shipped, file + ".d"}
	}
	return []string{file + ".d"}
}

// List returns the paths of the pieces of the config in file, in the order of their names, in
// which they are read, and the paths of those that others hide. It stops at more than Max.
func List(file string) (used, hidden []string) {
	var names []string // parallel to used, and sorted
	for _, dir := range Dirs(file) {
		for _, name := range sys.ReadDir(dir) {
			if !strings.HasSuffix(name, suffix) || name[0] == '.' || len(used) > Max {
				continue
			}
			at := 0
			for at < len(names) && names[at] < name {
				at++
			}
			if at < len(names) && names[at] == name {
				hidden = append(hidden, used[at])
				used[at] = dir + "/" + name
				continue
			}
			names = slices.Insert(names, at, name)
			used = slices.Insert(used, at, dir+"/"+name)
		}
	}
	return used, hidden
}

// Files returns the paths of all files of the config in file, in the order in which they are read:
// the pieces, and file itself.
func Files(file string) []string {
	used, _ := List(file)
	return append(used, file)
}
