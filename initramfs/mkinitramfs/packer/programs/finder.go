package programs

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// File is one file that a program needs, or the program.
type File struct {
	Path string // of the root, without a slash in front and without links
	Why  string
}

// Finder collects programs and what they need.
type Finder struct {
	root  Root
	files map[string]string // why, by path
	links map[string]Link
	// Notes says what a program may open while it runs and is not there, a line each.
	Notes []string

	system  []string // the directories that the loader knows of itself
	fromLib map[string][]string
	libc    string   // the directory of the C library
	order   []string // of files, as they came
	machine elf.Machine
	musl    bool // whether the loader is musl's, which is its C library, too
}

// NewFinder returns a Finder for the programs of a root.
func NewFinder(root Root) *Finder {
	return &Finder{root: root, files: map[string]string{}, links: map[string]Link{}}
}

// Files returns all that was found, in the order in which it was.
func (f *Finder) Files() (all []File) {
	for _, p := range f.order {
		all = append(all, File{p, f.files[p]})
	}
	return all
}

// Links returns the symbolic links that the paths lead over.
func (f *Finder) Links() (all []Link) {
	for _, l := range f.links {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b Link) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// Machine returns what the programs are for: 0 where there is none.
func (f *Finder) Machine() elf.Machine { return f.machine }

// Add takes a program, by its path in the root or its name alone, and all that it
// needs, and returns where it is.
func (f *Finder) Add(name, why string) (path string, err error) {
	path, err = f.root.Find(name)
	if err != nil {
		return "", err
	}
	return path, f.file(path, why, nil)
}

// object is an ELF file, and by which it was loaded: RPATH holds for those below, too.
type object struct {
	*elf.File
	dir    string // for $ORIGIN
	name   string
	parent *object
}

// file takes a file of the root: its links, itself, what it needs.
func (f *Finder) file(p, why string, parent *object) error {
	end, err := f.place(p)
	if err != nil {
		return err
	}
	if f.files[end] != "" {
		return nil
	}
	info, err := os.Stat(f.root.File(end))
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.root.File(end))
	}
	f.files[end] = why
	f.order = append(f.order, end)
	opened, err := os.Open(f.root.File(end))
	if err != nil {
		return err
	}
	defer opened.Close()
	line, err := bufio.NewReaderSize(io.LimitReader(opened, 256), 256).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	switch {
	case strings.HasPrefix(line, "#!"):
		return f.script(end, strings.Fields(line[2:]))
	case !strings.HasPrefix(line, elf.ELFMAG):
		return nil
	}
	e, err := elf.NewFile(opened)
	if err != nil {
		return fmt.Errorf("%s: %w", f.root.File(end), err)
	}
	return f.needs(&object{e, path.Dir(end), end, parent})
}

// place notes the links on the way to a path, and returns its end.
func (f *Finder) place(p string) (end string, err error) {
	links, end, err := f.root.Walk(p)
	for _, l := range links {
		f.links[l.Path] = l
	}
	return end, err
}

// script takes the interpreter of a script, and the program that env(1) would look for.
func (f *Finder) script(name string, words []string) error {
	if len(words) == 0 {
		return nil
	}
	why := "interpreter of " + name
	if _, err := f.Add(words[0], why); err != nil {
		return fmt.Errorf("%s is a script for %s: %w", f.root.File(name), words[0], err)
	}
	if path.Base(words[0]) == "env" && len(words) > 1 && !strings.HasPrefix(words[1], "-") {
		if _, err := f.Add(words[1], why); err != nil {
			return fmt.Errorf("%s is a script for %s: %w", f.root.File(name), words[1], err)
		}
	}
	return nil
}

// needs takes the loader and the libraries of an object.
func (f *Finder) needs(o *object) error {
	if f.machine == 0 {
		f.machine = o.Machine
	} else if f.machine != o.Machine {
		return fmt.Errorf("%s is for %v, and other programs of the image for %v", f.root.File(o.name), o.Machine, f.machine)
	}
	// The cache is in the byte order of the programs, not of this machine.
	if f.fromLib == nil {
		f.fromLib = f.root.cache(o.ByteOrder)
	}
	if interpreter := interpreterOf(o.File); interpreter != "" {
		f.system = systemDirs(o, interpreter, f.root)
		f.musl = strings.HasPrefix(path.Base(interpreter), "ld-musl-")
		if err := f.file(interpreter, "loader of "+o.name, nil); err != nil {
			return fmt.Errorf("%s needs its loader: %w", f.root.File(o.name), err)
		}
	}
	libraries, err := o.DynString(elf.DT_NEEDED)
	if err != nil {
		return fmt.Errorf("%s: %w", f.root.File(o.name), err)
	}
	for _, soname := range libraries {
		if err := f.library(soname, o, "needed by "+o.name); err != nil {
			return err
		}
	}
	f.opened(o)
	return nil
}

// interpreterOf returns what PT_INTERP says, or "".
func interpreterOf(e *elf.File) string {
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
			b, _ := io.ReadAll(p.Open())
			return string(bytes.TrimRight(b, "\x00"))
		}
	}
	return ""
}

// errNoLibrary is the error for a library that no directory holds.
var errNoLibrary = errors.New("no such library")

// library takes the library that an object asks for.
func (f *Finder) library(soname string, o *object, why string) error {
	if strings.Contains(soname, "/") {
		return f.file(soname, why, o)
	}
	if soname == "libc.so" && f.musl {
		return nil // the loader is the library
	}
	// The loader would ask the cache before its own directories. But the image has no
	// cache, so what is in these is found there.
	for _, dir := range slices.Concat(runPath(o), f.system) {
		if f.fits(path.Join(dir, soname), o) {
			f.libcIn(soname, dir)
			return f.file(path.Join(dir, soname), why, o)
		}
	}
	for _, p := range f.fromLib[soname] {
		if f.fits(p, o) {
			return f.linked(soname, p, o, why)
		}
	}
	for _, dir := range f.configured() {
		if p := path.Join(dir, soname); f.fits(p, o) {
			return f.linked(soname, p, o, why)
		}
	}
	return fmt.Errorf("%s needs the library %s, which is in none of its directories below %s: %w",
		f.root.File(o.name), soname, f.root.File("/"), errNoLibrary)
}

// libcIn notes where the C library is: the loader looks there without being told to.
func (f *Finder) libcIn(soname, dir string) {
	if soname == "libc.so.6" {
		f.libc = dir
	}
}

// linked takes a library that only ld.so.cache or ld.so.conf leads to. The image has
// neither, so a link beside the C library leads there.
func (f *Finder) linked(soname, p string, o *object, why string) error {
	if f.libc == "" {
		for _, dir := range f.system {
			if f.fits(path.Join(dir, "libc.so.6"), o) {
				f.libc = dir
				break
			}
		}
	}
	if beside := path.Join(f.libc, soname); f.libc != "" && beside != path.Clean(p) {
		dir, err := f.place(f.libc)
		if err != nil {
			return err
		}
		beside = path.Join(dir, soname)
		f.links[beside] = Link{beside, path.Clean(p)}
	}
	return f.file(p, why, o)
}

// fits reports whether a file is a library that an object can be linked to.
func (f *Finder) fits(p string, o *object) bool {
	_, end, err := f.root.Walk(p)
	if err != nil {
		return false
	}
	e, err := elf.Open(f.root.File(end))
	if err != nil {
		return false
	}
	defer e.Close()
	return e.Type == elf.ET_DYN && e.Class == o.Class && e.Machine == o.Machine && e.Data == o.Data
}

// runPath returns the directories that an object names, as ld.so(8) looks through
// them: RPATH of it and of those that loaded it, unless it has a RUNPATH.
func runPath(o *object) (dirs []string) {
	if own := dirsOf(o, elf.DT_RUNPATH); len(own) > 0 {
		return own
	}
	for ; o != nil; o = o.parent {
		if len(dirsOf(o, elf.DT_RUNPATH)) == 0 {
			dirs = append(dirs, dirsOf(o, elf.DT_RPATH)...)
		}
	}
	return dirs
}

// dirsOf returns the directories of DT_RPATH or DT_RUNPATH.
func dirsOf(o *object, tag elf.DynTag) (dirs []string) {
	lists, _ := o.DynString(tag)
	lib := "lib"
	if o.Class == elf.ELFCLASS64 {
		lib = "lib64"
	}
	expand := strings.NewReplacer("$ORIGIN", "/"+o.dir, "${ORIGIN}", "/"+o.dir, "$LIB", lib, "${LIB}", lib)
	for _, list := range lists {
		for dir := range strings.SplitSeq(list, ":") {
			if dir != "" {
				dirs = append(dirs, expand.Replace(dir))
			}
		}
	}
	return dirs
}

// triplets are the names of Debian's library directories.
var triplets = map[elf.Machine][]string{
	elf.EM_X86_64:  {"x86_64-linux-gnu", "x86_64-linux-gnux32"},
	elf.EM_386:     {"i386-linux-gnu"},
	elf.EM_AARCH64: {"aarch64-linux-gnu"},
	elf.EM_ARM:     {"arm-linux-gnueabihf", "arm-linux-gnueabi"},
	elf.EM_RISCV:   {"riscv64-linux-gnu"},
	elf.EM_S390:    {"s390x-linux-gnu"},
	elf.EM_MIPS:    {"mips-linux-gnu", "mipsel-linux-gnu", "mips64el-linux-gnuabi64"},
	elf.EM_PPC64:   {"powerpc64le-linux-gnu", "powerpc64-linux-gnu"},
}

// systemDirs returns the directories that a loader was built with.
func systemDirs(o *object, interpreter string, root Root) (dirs []string) {
	if name, ok := strings.CutPrefix(path.Base(interpreter), "ld-musl-"); ok {
		if _, end, err := root.Walk("etc/ld-musl-" + strings.TrimSuffix(name, ".so.1") + ".path"); err == nil {
			if text, err := os.ReadFile(root.File(end)); err == nil {
				return strings.FieldsFunc(string(text), func(r rune) bool { return r == ':' || r == '\n' })
			}
		}
		return []string{"lib", "usr/local/lib", "usr/lib"}
	}
	for _, t := range triplets[o.Machine] {
		dirs = append(dirs, "lib/"+t, "usr/lib/"+t)
	}
	if o.Class == elf.ELFCLASS64 {
		dirs = append(dirs, "lib64", "usr/lib64")
	}
	// The loader of another distribution may have its libraries beside it.
	if dir := strings.Trim(path.Dir(interpreter), "/"); !slices.Contains(dirs, dir) && dir != "lib" {
		dirs = append(dirs, dir)
	}
	return append(dirs, "lib", "usr/lib")
}

// configured returns the directories of ld.so.conf, for a root in which ldconfig did
// not run, as one for another architecture.
func (f *Finder) configured() (dirs []string) {
	var read func(pattern string, depth int)
	read = func(pattern string, depth int) {
		for _, p := range f.root.Glob(pattern) {
			_, end, err := f.root.Walk(p)
			if err != nil {
				continue
			}
			text, _ := os.ReadFile(f.root.File(end)) // one that cannot be read has no directories
			for line := range strings.Lines(string(text)) {
				line, _, _ = strings.Cut(line, "#")
				word := strings.Fields(line)
				switch {
				case len(word) == 2 && word[0] == "include" && depth < 4:
					if !strings.HasPrefix(word[1], "/") {
						word[1] = path.Join(path.Dir(p), word[1])
					}
					read(word[1], depth+1)
				case len(word) == 1:
					dirs = append(dirs, word[0])
				}
			}
		}
	}
	read("etc/ld.so.conf", 0)
	return dirs
}

// opened takes what an object opens while it runs, as far as it shows.
func (f *Finder) opened(o *object) {
	try := func(soname, why string) {
		if err := f.library(soname, o, why); err != nil {
			f.Notes = append(f.Notes, o.name+" may open "+soname+", which is not there")
		}
	}
	// glibc opens this library when a thread is cancelled or ends itself, and aborts
	// the program where it is missing.
	symbols, _ := o.ImportedSymbols()
	if slices.ContainsFunc(symbols, func(s elf.ImportedSymbol) bool {
		return s.Name == "pthread_cancel" || s.Name == "pthread_exit"
	}) && !f.musl {
		try("libgcc_s.so.1", "opened by "+o.name+" when a thread ends")
	}
	for _, soname := range noted(o.File) {
		try(soname, "opened by "+o.name)
	}
}

// noted returns what the section .note.dlopen names and does not call a mere suggestion
// (https://uapi-group.org/specifications/specs/elf_dlopen_metadata). Of several names
// for one thing it is the first.
func noted(e *elf.File) (sonames []string) {
	section := e.Section(".note.dlopen")
	if section == nil {
		return nil
	}
	data, err := section.Data()
	if err != nil {
		return nil
	}
	const owner, kind = "FDO\x00", 0x407c0c0a
	for len(data) >= 12 {
		nameSize, size, k := e.ByteOrder.Uint32(data), e.ByteOrder.Uint32(data[4:]), e.ByteOrder.Uint32(data[8:])
		data = data[12:]
		padded := func(n uint32) int64 { return (int64(n) + 3) &^ 3 }
		if padded(nameSize)+padded(size) > int64(len(data)) {
			break
		}
		name, text := data[:nameSize], data[padded(nameSize):padded(nameSize)+int64(size)]
		data = data[padded(nameSize)+padded(size):]
		if string(name) != owner || k != kind {
			continue
		}
		var notes []struct {
			Soname   []string
			Priority string
		}
		if json.Unmarshal(bytes.TrimRight(text, "\x00"), &notes) != nil {
			continue
		}
		for _, n := range notes {
			if len(n.Soname) > 0 && n.Priority != "suggested" && n.Priority != "" {
				sonames = append(sonames, n.Soname[0])
			}
		}
	}
	return sonames
}
