package main

import (
	"bufio"
	"bytes"
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"devspool/initramfs"
	"devspool/initramfs/mkinitramfs/packer/packed"
	"devspool/initramfs/mkinitramfs/packer/programs"
)

// packer makes one image. It has a method for each kind of thing that goes into one; run calls them
// in turn, and each adds to contents.
type packer struct {
	o      *options
	report *report
	contents
	machine elf.Machine // what the modules are for, or the programs; 0 where there are none
	order   elf.Data    // byte order of the same; 0 where it is not known
	kmod    bool        // whether kmod's modprobe is in the image
}

// writeError is an error of the image's file, rather than of what goes into it: the exit code
// tells them apart.
type writeError struct{ error }

// Unwrap lets errors.Is find the cause, such as ENOSPC.
func (e *writeError) Unwrap() error { return e.error }

// run gathers what the options ask for, and writes it. Nothing is written before all is known to be
// there.
func (p *packer) run() error {
	defer p.report.clear()
	// Programs and modules come before the binary: it is built for what they are for.
	steps := []func() error{p.readUnder, p.addPrograms, p.addModules, p.addDevspool, p.addBase, p.addFiles}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	items, err := p.finish()
	if err != nil {
		return err
	}
	if err := p.checkInit(items); err != nil {
		return err
	}
	if err := p.checkConf(items); err != nil {
		return err
	}
	early, err := p.early()
	if err != nil {
		return err
	}
	p.report.clear()
	if p.o.why || p.o.dryRun {
		p.report.reasons(items)
	}
	// A dry run has no size.
	size := int64(-1)
	if !p.o.dryRun {
		if size, err = p.write(early, items); err != nil {
			return err
		}
	}
	p.report.clear()
	p.report.summary(items, p.o.output, size)
	return nil
}

// readUnder reads the image that --append names: what is there already decides what has to be added.
func (p *packer) readUnder() error {
	if p.o.appendTo == "" {
		return nil
	}
	// Its entries are needed before the first byte is written.
	if p.o.appendTo == "-" {
		return errors.New("--append -: the image is read more than once, so it has to be a file")
	}
	file, err := openImage(p.o.appendTo)
	if err != nil {
		return fmt.Errorf("--append: %w", err)
	}
	defer file.Close()
	if p.under, err = readImage(file); err != nil {
		return fmt.Errorf("--append %s: %w", p.o.appendTo, err)
	}
	return nil
}

// addPrograms adds programs of the root, and what they need.
func (p *packer) addPrograms() error {
	root := programs.Root(p.o.root)
	f := programs.NewFinder(root)
	for _, name := range p.o.programs.values {
		// What was asked for must be there; what a program may want besides is a note.
		if _, err := f.Add(name, "--program "+name); err != nil {
			return fmt.Errorf("--program %s: %w", name, err)
		}
	}
	if len(p.o.programs.values) > 0 {
		// Scripts name their interpreters by paths that may be links on the root.
		for _, dir := range []string{"bin", "sbin", "lib"} {
			if links, _, err := root.Walk(dir); err == nil && len(links) == 1 {
				p.add(groupPrograms, "as below "+p.o.root, initramfs.Symlink{Path: links[0].Path, Target: links[0].Target})
			}
		}
	}
	for _, l := range f.Links() {
		p.add(groupPrograms, "on the way to a program's files", initramfs.Symlink{Path: l.Path, Target: l.Target})
	}
	for _, file := range f.Files() {
		e, err := copyOf(root.File(file.Path), file.Path)
		if err != nil {
			return err
		}
		p.add(groupPrograms, file.Why, e)
		// Of all that look modules up kmod alone wants the index of symbols: see addSelected.
		p.kmod = p.kmod || path.Base(file.Path) == "kmod" || path.Base(file.Path) == "modprobe"
	}
	for _, n := range f.Notes {
		p.report.note("%s", n)
	}
	p.machine = f.Machine()
	return nil
}

// copyOf returns the entry for a file that is there, with links followed. Its mode is kept, and it
// is root's, though the image may be built by another user.
func copyOf(source, to string) (initramfs.File, error) {
	info, err := os.Stat(source)
	if err != nil {
		return initramfs.File{}, err
	}
	mode := uint32(info.Mode().Perm())
	// Go keeps these bits apart from the permissions.
	for bit, is := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if info.Mode()&is != 0 {
			mode |= bit
		}
	}
	return initramfs.File{Path: inImage(to), Mode: mode, Source: source}, nil
}

// addBase adds what every image has. One that is added to has it already.
func (p *packer) addBase() error {
	const why = "every image has it"
	p.add(groupBase, why, initramfs.Base()...)
	for _, d := range []initramfs.Dir{
		// Where file systems are mounted, and what programs expect to be there.
		{Path: "proc", Mode: 0o555}, {Path: "sys", Mode: 0o555}, {Path: "run", Mode: 0o755},
		{Path: "tmp", Mode: 0o1777}, {Path: "root", Mode: 0o700}, {Path: "etc", Mode: 0o755},
	} {
		p.add(groupBase, why, d)
	}
	return nil
}

// addFiles adds what the command line names one by one.
func (p *packer) addFiles() error {
	for _, text := range p.o.nodes.values {
		n, err := parseNode(text)
		if err != nil {
			return wrongUsage(err)
		}
		p.add(groupFiles, "--node", n)
	}
	for _, text := range p.o.dirs.values {
		dir, mode, ok := strings.Cut(text, ":")
		d := initramfs.Dir{Path: inImage(dir), Mode: 0o755}
		if ok {
			var err error
			if d.Mode, err = parseMode(mode); err != nil {
				return wrongUsage(fmt.Errorf("--dir %s: %w", text, err))
			}
		}
		p.add(groupFiles, "--dir", d)
	}
	for _, text := range p.o.links.values {
		from, to, err := cut("link", text, "PATH:TARGET")
		if err != nil {
			return wrongUsage(err)
		}
		p.add(groupFiles, "--link", initramfs.Symlink{Path: inImage(from), Target: to})
	}
	for _, text := range p.o.files.values {
		from, to, err := cut("file", text, "SRC:DST")
		if err != nil {
			return wrongUsage(err)
		}
		if err := p.addTree("--file "+from, from, inImage(to)); err != nil {
			return fmt.Errorf("--file %s: %w", text, err)
		}
	}
	for _, from := range p.o.modprobeConf.values {
		if err := p.addModprobeConf(from); err != nil {
			return err
		}
	}
	return nil
}

// addTree adds a file, or a directory with all below it. Links in it stay links. Owners do not count:
// all is root's in the image. Sockets and nodes are refused, since they cannot be meant.
func (p *packer) addTree(why, from, to string) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		// "." for from itself, which path.Join leaves out.
		rest, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		place := path.Join(to, rest)
		info, err := d.Info()
		if err == nil && name == from {
			info, err = os.Stat(name) // what the command line names may be a link
		}
		switch {
		case err != nil:
			return err
		case info.IsDir() && name == from && !d.IsDir():
			return fmt.Errorf("%s is a link to a directory: name the directory", from)
		case info.IsDir():
			p.add(groupFiles, why, initramfs.Dir{Path: place, Mode: uint32(info.Mode().Perm())})
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			p.add(groupFiles, why, initramfs.Symlink{Path: place, Target: target})
		case info.Mode().IsRegular():
			e, err := copyOf(name, place)
			if err != nil {
				return err
			}
			p.add(groupFiles, why, e)
		default:
			return fmt.Errorf("%s is neither a file nor a directory: name a device node by --node", name)
		}
		return nil
	})
}

// addModprobeConf adds a file of modprobe.d, whatever its name, or those of a directory that modprobe reads:
// *.conf.
func (p *packer) addModprobeConf(from string) error {
	names := []string{from}
	if info, err := os.Stat(from); err != nil {
		return fmt.Errorf("--modprobe-conf: %w", err)
	} else if info.IsDir() {
		if names, err = filepath.Glob(filepath.Join(from, "*.conf")); err != nil {
			return err
		}
	}
	for _, name := range names {
		// A file of another name would be in the image, and never be read.
		base := strings.TrimSuffix(filepath.Base(name), ".conf") + ".conf"
		e, err := copyOf(name, "etc/modprobe.d/"+base)
		if err != nil {
			return err
		}
		p.add(groupFiles, "--modprobe-conf "+from, e)
	}
	return nil
}

// checkInit refuses an image in which /init is a script without its interpreter: the kernel says
// only that /init cannot be found.
func (p *packer) checkInit(items []item) error {
	if p.o.init == "" || p.o.init == "none" {
		return nil
	}
	file, err := os.Open(p.o.init)
	if err != nil {
		return fmt.Errorf("--init: %w", err)
	}
	defer file.Close()
	head := make([]byte, 256)
	n, _ := io.ReadFull(file, head) // a short one is no error
	// As the kernel reads a script: "#!", the interpreter, perhaps one argument, within 256 bytes.
	// 256 is the BINPRM_BUF_SIZE of include/uapi/linux/binfmts.h. A binary has no "#!", and is not looked at.
	line, _, _ := bytes.Cut(head[:n], []byte("\n"))
	words := strings.Fields(strings.TrimPrefix(string(line), "#!"))
	if !bytes.HasPrefix(line, []byte("#!")) || len(words) == 0 {
		return nil
	}
	// What is new overrides the links of the image below, as the kernel does when it unpacks both.
	links, have := p.under.links(), map[string]bool{}
	for _, i := range items {
		have[i.path()] = true
		if l, ok := i.Entry.(initramfs.Symlink); ok {
			links[l.Path] = l.Target
		}
	}
	// The interpreter may be below a link, or be one: busybox is sh by a link.
	end, err := resolve(inImage(words[0]), links)
	if _, there := p.under[end]; err != nil || !have[end] && !there {
		return fmt.Errorf("--init %s is a script for %s, which is not in the image: add it by --program %s", p.o.init, words[0], words[0])
	}
	return nil
}

// checkConf warns of a config by which /init would load none of the modules: only where the image has no
// config does it have a rule for that.
func (p *packer) checkConf(items []item) error {
	if p.o.conf == "" || p.o.init != "" || p.o.appendTo != "" || p.o.devspool == "none" || !p.o.wantsModules() {
		return nil
	}
	text, err := os.ReadFile(p.o.conf)
	if err != nil {
		return fmt.Errorf("--conf: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if rule, _, _ := strings.Cut(line, "#"); strings.Contains(rule, "modprobe") {
			return nil
		}
	}
	for _, i := range items {
		if strings.Contains(i.path(), "mdev.conf.d/") { // a piece may have the rule
			return nil
		}
	}
	p.report.warn("--conf %s has no rule that loads modules, so /init would load none; add: %s", p.o.conf, `-$MODALIAS=.* 0:0 660 @modprobe -b -q "$MODALIAS"`)
	return nil
}

// write writes the image, in one step: a reader of its path finds the old one or the
// new one, also where this program is killed. To standard output it is written as it is made. Size
// is in bytes.
func (p *packer) write(early []byte, items []item) (size int64, err error) {
	if p.o.output == "-" {
		c := &counted{w: p.report.stdout}
		err := p.writeTo(c, early, items)
		return c.n, err
	}
	info, err := os.Stat(p.o.output)
	if err == nil && !info.Mode().IsRegular() {
		return p.writeInPlace(early, items)
	}
	// rename(2) is atomic, and works within one file system only.
	// In the same directory, so that it can be renamed.
	temporary, err := os.CreateTemp(filepath.Dir(p.o.output), ".mkinitramfs-*")
	if err != nil {
		return 0, &writeError{err}
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name())
		}
	}()
	defer removeWhenKilled(temporary.Name())()
	c := &counted{w: temporary}
	err = p.writeTo(c, early, items)
	if err == nil {
		// An image with keys in it may have been made private.
		mode := fs.FileMode(0o644)
		if info != nil {
			mode = info.Mode().Perm()
		}
		err = asWriteError(temporary.Chmod(mode))
	}
	// Close tells of writes that failed late, as on a network file system.
	err = cmp.Or(err, asWriteError(temporary.Close()))
	if err == nil {
		err = asWriteError(os.Rename(temporary.Name(), p.o.output))
	}
	return c.n, err
}

// removeWhenKilled has a signal that ends the program remove a file first, until stop
// is called. SIGKILL leaves the file behind; its name begins with a dot.
func removeWhenKilled(name string) (stop func()) {
	// A deferred call does not run where a signal ends the program.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		if s, ok := <-signals; ok {
			_ = os.Remove(name)
			// So that the parent sees which signal it was.
			signal.Reset()
			_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
		}
	}()
	return func() {
		// Closing after Stop ends the goroutine above: it gets no signal then, and ok is false.
		signal.Stop(signals)
		close(signals)
	}
}

// writeInPlace is write for what is no file: /dev/null, a disk, a pipe. A file in its place would take it
// away from everybody. Nothing can be written to a directory.
func (p *packer) writeInPlace(early []byte, items []item) (size int64, err error) {
	out, err := os.OpenFile(p.o.output, os.O_WRONLY, 0)
	if err != nil {
		return 0, &writeError{err}
	}
	c := &counted{w: out}
	err = p.writeTo(c, early, items)
	return c.n, cmp.Or(err, asWriteError(out.Close()))
}

// asWriteError marks an error as one of the image's file, for the exit code.
func asWriteError(err error) error {
	if err == nil {
		return nil
	}
	return &writeError{err}
}

// counted counts what is written, and tells its own errors from those of readers.
type counted struct {
	w io.Writer
	n int64 // bytes that w has taken: the place in the image
}

// Write returns errors as a writeError, so that run exits with exitSystem for them alone.
func (c *counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, asWriteError(err)
}

// pad fills up to a multiple of four, where the kernel takes an archive as it is: it skips zeros
// between archives, and then wants the next header at such a place.
func (c *counted) pad() error {
	_, err := c.Write([]byte("\x00\x00\x00")[:-c.n&3])
	return err
}

// writeTo writes the parts of the image one behind the other: early archives, the image of
// --append, and the new archive. Of a path that comes twice the kernel keeps the later one.
func (p *packer) writeTo(c *counted, early []byte, items []item) error {
	if _, err := c.Write(early); err != nil {
		return err
	}
	if p.o.appendTo != "" {
		file, err := os.Open(p.o.appendTo)
		if err != nil {
			return err
		}
		defer file.Close()
		// It is not read and written anew: what this program does not understand of it stays.
		if _, err := io.Copy(c, file); err != nil {
			return err
		}
	}
	if p.o.compress == "none" {
		// A compressed one may begin anywhere, and zstd takes no zeros between frames.
		if err := c.pad(); err != nil {
			return err
		}
	}
	compressed, err := packed.NewWriter(c, p.o.compress)
	if err != nil {
		return err
	}
	var entries []initramfs.Entry
	var all int64
	for _, i := range items {
		entries = append(entries, i.Entry)
		all += i.size()
	}
	shown := &shown{w: compressed, report: p.report, all: all}
	// Headers are small: without a buffer each would be a write, and a look at the clock.
	buffered := bufio.NewWriterSize(shown, 256<<10)
	err = initramfs.ArchiveOf(buffered, p.o.time, entries...)
	if err == nil {
		err = buffered.Flush()
	}
	// After an error the end could only tell the same once more.
	return cmp.Or(err, compressed.Close())
}

// shown shows how much is written already.
type shown struct {
	w      io.Writer
	report *report
	n, all int64 // bytes written, and to write, before compression
}

// Write counts the bytes before they are compressed: only of these is the sum known beforehand.
func (s *shown) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.n += int64(n)
	s.report.progress("writing the image, in kB", int(s.n>>10), int(s.all>>10))
	return n, err
}
