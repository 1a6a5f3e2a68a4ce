package systemtest

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/kerneltest/build"
)

// said runs a command in dir and returns what it writes, standard error too.
func said(t *testing.T, dir string, environ []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL="), environ...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// files lists the files below dir that are no directories.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	hotplugtest.Must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(path, dir))
		}
		return err
	}))
	return names
}

// TestDistInstall makes the tarball twice, builds what is in it without git, installs that, and takes it
// away again.
func TestDistInstall(t *testing.T) {
	t.Parallel()
	root, err := build.Root()
	hotplugtest.Must(t, err)
	path := func() string {
		lines := strings.Fields(said(t, root, nil, "make", "-s", "dist"))
		return filepath.Join(root, lines[len(lines)-1])
	}
	tarball := path()
	first, err := os.ReadFile(tarball)
	hotplugtest.Must(t, err)
	second, err := os.ReadFile(path())
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("two tarballs of one commit differ: %v", err)
	}
	version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(tarball), "devspool-"), ".tar.gz")

	dir, to := t.TempDir(), t.TempDir()
	said(t, dir, nil, "tar", "xzf", tarball)
	source := filepath.Join(dir, "devspool-"+version)
	noGit := t.TempDir()
	hotplugtest.Must(t, os.WriteFile(noGit+"/git", []byte("#!/bin/sh\nexit 1\n"), 0o755))
	environ := []string{"PATH=" + noGit + ":" + os.Getenv("PATH")}
	said(t, source, environ, "make", "install", "DESTDIR="+to, "PREFIX=/usr", "LINKS=mdev modprobe")
	want := []string{
		"/usr/sbin/devspool", "/usr/sbin/mdev", "/usr/sbin/modprobe",
		"/usr/share/bash-completion/completions/devspool", "/usr/share/fish/vendor_completions.d/devspool.fish",
		"/usr/share/man/man5/devspool-events.5", "/usr/share/man/man5/mdev.conf.5", "/usr/share/man/man8/devspool-init.8", "/usr/share/man/man8/devspool.8",
		"/usr/share/zsh/site-functions/_devspool",
	}
	if got := files(t, to); !slices.Equal(got, want) {
		t.Errorf("installed: %q", got)
	}
	if got := said(t, to, nil, to+"/usr/sbin/mdev", "--version"); !strings.HasPrefix(got, "devspool "+version+" (") {
		t.Errorf("mdev --version says %q, want %s", got, version)
	}
	if err := build.Inspect(to + "/usr/sbin/devspool"); err != nil {
		t.Error(err)
	}
	hotplugtest.Must(t, os.Remove(to+"/usr/sbin/modprobe"))
	hotplugtest.Must(t, os.Symlink("kmod", to+"/usr/sbin/modprobe"))
	said(t, source, environ, "make", "uninstall", "DESTDIR="+to, "PREFIX=/usr")
	if got := files(t, to); !slices.Equal(got, []string{"/usr/sbin/modprobe"}) {
		t.Errorf("left: %q", got)
	}
}

// TestFlagsOfForeignExperiment builds with the hand-off where GOEXPERIMENT has what this go command does
// not know, and so refuses to say anything.
func TestFlagsOfForeignExperiment(t *testing.T) {
	t.Parallel()
	root, err := build.Root()
	hotplugtest.Must(t, err)
	with, without := said(t, root, []string{"GOEXPERIMENT=nosuch"}, "make", "-s", "flags"), said(t, root, []string{"GOEXPERIMENT="}, "make", "-s", "flags")
	if with != without {
		t.Errorf("the flags are\n%snot\n%s", with, without)
	}
}

// TestCompletions has shells complete command lines by what make writes for them.
func TestCompletions(t *testing.T) {
	t.Parallel()
	root, err := build.Root()
	hotplugtest.Must(t, err)
	dir := t.TempDir()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		cmd := exec.Command("go", "run", "-tags", "completions", ".", shell)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		text, err := cmd.Output()
		hotplugtest.Must(t, err)
		hotplugtest.WriteFile(t, dir+"/"+shell, string(text))
	}
	hotplugtest.Must(t, os.Rename(dir+"/zsh", dir+"/_devspool"))
	bash := "source " + dir + "/bash; COMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _devspool; echo \"${COMPREPLY[@]}\""
	fish := "source " + dir + "/fish; complete -C %q | cut -f1"
	// Zsh completes on a terminal only: that it takes the file, and offers the word in it.
	zsh := `fpath=(` + dir + ` $fpath); autoload -U compinit; compinit -u -d ` + dir + `/dump
_arguments() { print -rl -- "$@" $first $ctl | tr "'[:()" " " }; autoload -U +X _devspool; words=(%s); CURRENT=$(($#words+1))
[ $_comps[mdev]$_comps[devspool] = _devspool_devspool ] && source ` + dir + `/_devspool && _devspool`
	for _, c := range []struct {
		shell, script, line string
		want                []string
	}{
		{"bash", bash, "devspool --print", []string{"--print-conf", "--print-default-conf", "--print-udev-conf"}},
		{"bash", bash, "mdev ctl st", []string{"status", "stop", "start"}},
		{"bash", bash, "mdev se", []string{"settle"}},
		{"bash", bash, "mdev --conf " + dir + "/fi", []string{dir + "/fish"}},
		{"bash", bash, "mdev --conf = " + dir + "/fi", []string{dir + "/fish"}}, // how Readline splits --conf=
		{"bash", bash, "devspool wait " + dir + "/fi", []string{dir + "/fish"}},
		{"bash", bash, "devspool watch --sub", []string{"--subsystem"}},
		{"bash", bash, "mdev -j 3 event p", []string{"put", "pop"}},
		{"bash", bash, "devspool udevadm --subsystem-m", []string{"--subsystem-match"}},
		{"fish", fish, "devspool --print", []string{"--print-conf", "--print-default-conf", "--print-udev-conf"}},
		{"fish", fish, "mdev ctl st", []string{"status", "stop", "start"}},
		{"fish", fish, "mdev se", []string{"settle"}},
		{"fish", fish, "devspool watch --sub", []string{"--subsystem"}},
		{"fish", fish, "mdev event p", []string{"put", "pop"}},
		{"fish", fish, "devspool wait " + dir + "/fi", []string{dir + "/fish"}},
		{"zsh", zsh, "devspool watch", []string{"--subsystem=", "--replay"}},
		{"zsh", zsh, "devspool", []string{"--print-conf", "reload", "settle"}},
	} {
		t.Run(c.shell+" "+c.line, func(t *testing.T) {
			shell, err := exec.LookPath(c.shell)
			if err != nil {
				kerneltest.Cannot(t, "%v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			out, err := exec.CommandContext(ctx, shell, "-c", fmt.Sprintf(c.script, c.line)).CombinedOutput()
			for _, want := range c.want {
				if err != nil || !slices.Contains(strings.Fields(string(out)), want) {
					t.Errorf("%q, %v, want %s", out, err, want)
				}
			}
			// An applet does not take devspool's own options.
			if strings.Contains(c.line, "watch") && strings.Contains(string(out), "--print-conf") {
				t.Errorf("offered: %s", out)
			}
		})
	}
}
