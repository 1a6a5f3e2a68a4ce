// Package programs finds the files that dynamic programs need to run. It reads below
// one root, which may be that of another architecture, and runs nothing there.
package programs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Link is a symbolic link of the root.
type Link struct{ Path, Target string }

// Root is a directory that programs see as "/".
type Root string

// File returns the path, from here, of a path of the root that Walk returned.
func (r Root) File(path string) string { return filepath.Join(string(r), path) }

// maxLinks is how many links a path may lead over, as in the kernel.
const maxLinks = 40

// Walk follows a path of the root, and returns the links that it leads over, and
// where it ends: a path without a slash in front and without links. A link never
// leads out of the root.
func (r Root) Walk(path string) (links []Link, end string, err error) {
	todo := strings.Split(path, "/")
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if end = filepath.Dir(end); end == "." {
				end = ""
			}
			continue
		}
		next := filepath.Join(end, part)
		info, err := os.Lstat(r.File(next))
		if err != nil {
			return nil, "", err
		}
		if info.Mode()&os.ModeSymlink == 0 {
			end = next
			continue
		}
		target, err := os.Readlink(r.File(next))
		if err != nil {
			return nil, "", err
		}
		links = append(links, Link{next, target})
		if len(links) > maxLinks {
			return nil, "", &os.PathError{Op: "open", Path: r.File(path), Err: syscall.ELOOP}
		}
		if strings.HasPrefix(target, "/") {
			end = ""
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return links, end, nil
}

// Glob returns the paths of the root that fit a pattern, without slashes in front.
// It follows links of the root in the pattern's directory.
func (r Root) Glob(pattern string) (paths []string) {
	dir, name := filepath.Split(strings.Trim(pattern, "/"))
	dirs := []string{dir}
	if strings.ContainsAny(dir, "*?[") {
		dirs = r.Glob(strings.TrimSuffix(dir, "/"))
	}
	for _, dir := range dirs {
		_, end, err := r.Walk(dir)
		if err != nil {
			continue
		}
		entries, _ := os.ReadDir(r.File(end)) // what is not there has nothing
		for _, e := range entries {
			if ok, err := filepath.Match(name, e.Name()); ok && err == nil {
				paths = append(paths, filepath.Join(dir, e.Name()))
			}
		}
	}
	return paths
}

// pathDirs is where a program is looked for that is given by its name alone.
var pathDirs = []string{"usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"}

// Find returns the path of a program that may be given by its name alone.
func (r Root) Find(name string) (path string, err error) {
	if strings.Contains(name, "/") {
		_, _, err := r.Walk(name)
		return name, err
	}
	for _, dir := range pathDirs {
		path := filepath.Join(dir, name)
		if _, end, err := r.Walk(path); err == nil {
			if info, err := os.Stat(r.File(end)); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return path, nil
			}
		}
	}
	return "", errors.New("no program " + name + " in " + strings.Join(pathDirs, ", ") + " below " + r.File("/"))
}
