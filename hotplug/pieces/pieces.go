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

// Max is how many pieces a config may have.
const Max = 200

// suffix ends the name of each piece: what editors and package managers leave has another end.
const suffix = ".conf"

// Dirs returns the directories that hold the pieces of the config in file, a clean absolute path:
// FILE.d, and before it, of the system's config, that of packages. A later one hides what has
// the same name in an earlier one.
func Dirs(file string) []string {
	dirs := []string{shipped, file + ".d"}
	if file != Main {
		return dirs[1:]
	}
	return dirs
}

// List returns the paths of the pieces of the config in file, in the order of their names, in
// which they are read, and the paths of those that others hide. It stops at more than Max.
func List(file string) (used, hidden []string) {
	for _, dir := range Dirs(file) {
		for _, name := range sys.ReadDir(dir) {
			if strings.HasSuffix(name, suffix) && name[0] != '.' && len(used) <= Max {
				var hides string
				if used, hides = insert(used, dir+"/"+name); hides != "" {
					hidden = append(hidden, hides)
				}
			}
		}
	}
	return used, hidden
}

// insert puts path into a list that is sorted by name, in place of one of the same name, if there is
// one. (slices.Insert would cost the program 2 kB.)
func insert(paths []string, path string) (all []string, hides string) {
	at := len(paths)
	for at > 0 && name(paths[at-1]) >= name(path) {
		at--
	}
	if at < len(paths) && name(paths[at]) == name(path) {
		hides, paths[at] = paths[at], path
		return paths, hides
	}
	paths = append(paths, "")
	copy(paths[at+1:], paths[at:])
	paths[at] = path
	return paths, ""
}

func name(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// Files returns the paths of all files of the config in file, in the order in which they are read:
// the pieces, and file itself.
func Files(file string) []string {
	used, _ := List(file)
	return append(used, file)
}
