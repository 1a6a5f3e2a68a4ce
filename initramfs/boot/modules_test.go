package boot_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"devspool/hotplug/log"
	"devspool/hotplug/modules"
	"devspool/initramfs"
	"devspool/initramfs/boot"
)

// umlModules is where Debian's User Mode Linux keeps its modules, with depmod's files.
const umlModules = "/usr/lib/uml/modules"

// modulesTree returns entries of the image for the directory of modules of a release: all
// of depmod's files, and what lies in some of its directories.
func modulesTree(t *testing.T, dirs ...string) (entries []initramfs.Entry) {
	t.Helper()
	found, err := filepath.Glob(umlModules + "/*/modules.*")
	if err != nil || len(found) == 0 {
		return nil // in the guest; outside of it the lab says what is missing
	}
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(filepath.Dir(found[0]), "kernel", dir), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				found = append(found, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range found {
		entries = append(entries, initramfs.File{Path: "lib/modules" + strings.TrimPrefix(path, umlModules), Mode: 0o644, Source: path})
	}
	return entries
}

// loaded returns the names of the kernel's modules.
func loaded(g *boot.Guest) map[string]bool {
	names := map[string]bool{}
	for line := range strings.Lines(g.Read("/proc/modules")) {
		name, _, _ := strings.Cut(line, " ")
		names[name] = true
	}
	return names
}

// TestModules shows that a real kernel takes modules from the tool and from the loader:
// in the right order, with parameters, each once; and gives them back.
func TestModules(t *testing.T) {
	lab := boot.NewLab(t)
	files := modulesTree(t, "drivers/md", "drivers/block", "drivers/scsi", "crypto", "lib", "fs/fuse", "block", "security/keys")
	files = append(files,
		initramfs.Symlink{Path: "sbin/modprobe", Target: "devspool"},
		initramfs.File{Path: "etc/modprobe.d/a.conf", Mode: 0o644, Text: "options scsi_debug dev_size_mb=9\ninstall brd /bin/false\nsoftdep fuse pre: loop\n"})
	lab.Run(t, boot.Options{Files: files, Append: []string{fewTerminals, "scsi_debug.num_tgts=2", "modprobe.blacklist=sr_mod"}}, func(g *boot.Guest) {
		if out := g.Command("/sbin/modprobe", "-v", "scsi-debug", "max_luns=3"); !strings.Contains(out, "scsi_debug.ko dev_size_mb=9 num_tgts=2 max_luns=3\n") {
			g.Errorf("modprobe -v: %s", out)
		}
		for parameter, want := range map[string]string{"dev_size_mb": "9", "num_tgts": "2", "max_luns": "3"} {
			if got := g.Read("/sys/module/scsi_debug/parameters/" + parameter); got != want {
				g.Errorf("%s is %s, want %s", parameter, got, want)
			}
		}
		if out := g.Command(program, "modprobe", "-a", "raid456", "dm_thin_pool", "dm-raid", "fuse", "scsi_debug"); out != "" {
			g.Errorf("modprobe -a: %s", out)
		}
		now := loaded(g)
		for _, name := range []string{"raid456", "md_mod", "dm_thin_pool", "dm_persistent_data", "dm_raid", "fuse"} {
			if !now[name] {
				g.Errorf("%s is not loaded", name)
			}
		}
		wishes(g)
		g.Command("/sbin/modprobe", "-r", "dm-raid", "dm-thin-pool")
		if now := loaded(g); now["dm_raid"] || now["dm_thin_pool"] || now["dm_persistent_data"] || !now["fuse"] {
			g.Errorf("after modprobe -r: %v", now)
		}
		loadByRule(g)
		leaveToProgram(g)
		loadAll(g)
	})
}

// wishes has a module that wishes for another one, which it can do without: as long as the module is there, that
// is neither loaded nor removed for it.
func wishes(g *boot.Guest) {
	g.Command("/sbin/modprobe", "cuse")
	g.Command("/sbin/modprobe", "-r", "loop")
	if out := g.Command("/sbin/modprobe", "-v", "fuse"); out != "" || modules.IsLive("loop") {
		g.Errorf("modprobe of a module that is there: %s", out)
	}
	g.Command("/sbin/modprobe", "loop")
	if err := exec.Command("/sbin/modprobe", "-r", "fuse").Run(); err == nil || !modules.IsLive("loop") {
		g.Errorf("modprobe -r of a module that is in use: %v", err)
	}
	g.Command("/sbin/modprobe", "-r", "cuse") // and what it needed
	g.Command("/sbin/modprobe", "fuse")
}

// loadByRule has a rule's call of modprobe carried out by the program itself, though there is
// another modprobe, which would tell.
func loadByRule(g *boot.Guest) {
	if err := os.WriteFile("/etc/rules.conf", []byte("$MODALIAS=.* 0:0 660 @modprobe -b \"$MODALIAS\"\n"), 0o644); err != nil {
		g.Fatal(err)
	}
	for alias, module := range map[string]string{"char-major-10-203": "cuse", "no-such:alias": "", "net-pf-38": "af_alg"} {
		cmd := exec.Command(program, "-v", "--conf", "/etc/rules.conf")
		cmd.Env = []string{"ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=x", "MODALIAS=" + alias}
		out, err := cmd.CombinedOutput()
		switch {
		case err != nil:
			g.Errorf("%s: %v: %s", alias, err, out)
		case !strings.Contains(string(out), "modules: add /devices/x: "+alias+": "):
			g.Errorf("%s: the program did not see to it: %s", alias, out)
		case module != "" && !loaded(g)[module]:
			g.Errorf("%s: %s is not loaded: %s", alias, module, out)
		}
	}
}

// leaveToProgram has rules whose calls of modprobe are the program's work: by modules=no, and
// since they are others than the one that is known.
func leaveToProgram(g *boot.Guest) {
	const dir, said = "/own", "/tmp/program"
	if err := os.Mkdir(dir, 0o755); err != nil {
		g.Fatal(err)
	}
	script := "#!/bin/sh\necho \"$@\" >>" + said + "\n"
	if err := os.WriteFile(dir+"/modprobe", []byte(script), 0o755); err != nil {
		g.Fatal(err)
	}
	want := ""
	for _, c := range []struct{ rule, said string }{
		{`modules=no;$MODALIAS=.* 0:0 660 @modprobe -b "$MODALIAS"`, "-b char-major-10-203\n"},
		{"modules=no;\n" + `$MODALIAS=.* 0:0 660 @modprobe $MODALIAS`, "char-major-10-203\n"},
		{`$MODALIAS=.* 0:0 660 @modprobe -v "$MODALIAS"`, "-v char-major-10-203\n"},
		{`$MODALIAS=.* 0:0 660 @/own/modprobe "$MODALIAS"`, "char-major-10-203\n"},
		{`$MODALIAS=.* 0:0 660 @/own/modprobe "$MODALIAS" && echo done >>` + said, "char-major-10-203\ndone\n"},
	} {
		if err := os.WriteFile("/etc/rules.conf", []byte(c.rule+"\n"), 0o644); err != nil {
			g.Fatal(err)
		}
		g.Command(program, "modprobe", "-r", "cuse")
		cmd := exec.Command(program, "-v", "--conf", "/etc/rules.conf")
		cmd.Env = []string{"ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=x", "MODALIAS=char-major-10-203", "PATH=" + dir}
		out, err := cmd.CombinedOutput()
		want += c.said
		if got, _ := os.ReadFile(said); err != nil || string(got) != want || loaded(g)["cuse"] {
			g.Fatalf("%s: the programs were called with %q, want %q; %v: %s", c.rule, got, want, err, out)
		}
	}
}

// loadAll has the loader load a crowd, some of it several times.
func loadAll(g *boot.Guest) {
	cmdline := g.Read("/proc/cmdline")
	loader, err := modules.Open(modules.Source{Cmdline: cmdline}, modules.Options{Log: log.Stderr()})
	if err != nil {
		g.Fatal(err)
	}
	var all sync.WaitGroup
	for range 5 {
		for _, name := range []string{"dm_thin_pool", "dm-raid", "dm-crypt", "dm-cache-smq", "dm-integrity", "fs-fuse", "devname:fuse", "loop", "raid10", "dm-verity"} {
			all.Add(1)
			loader.Request(name, func(err error) {
				defer all.Done()
				if err != nil {
					g.Errorf("%s: %v", name, err)
				}
			})
		}
	}
	all.Wait()
	now := loaded(g)
	for _, name := range []string{"dm_thin_pool", "dm_raid", "dm_crypt", "fuse", "loop", "raid10"} {
		if !now[name] {
			g.Errorf("%s is not loaded", name)
		}
	}
	if err := loader.Load("scsi:t-0x05"); err != nil || loaded(g)["sr_mod"] { // the alias of a module that is blacklisted
		g.Errorf("sr_mod: %v", err)
	}
	var failed *modules.Error
	if err := loader.Load("brd"); !errors.As(err, &failed) {
		g.Errorf("brd: %v", err)
	}
}

// nestedRounds is how often TestNestedModules coldplugs; DEVSPOOL_BOOT_ROUNDS says otherwise.
const nestedRounds = "20"

// TestNestedModules coldplugs a machine whose devices have modules that bring devices, which have
// modules that bring devices: the end of a coldplug, and what settle says, comes when all of them are there.
func TestNestedModules(t *testing.T) {
	lab := boot.NewLab(t)
	rounds := os.Getenv("DEVSPOOL_BOOT_ROUNDS")
	if rounds == "" {
		rounds = nestedRounds
	}
	n, err := strconv.Atoi(rounds)
	if err != nil {
		t.Fatal(err)
	}
	files := append(modulesTree(t, "drivers/scsi", "lib", "block"),
		initramfs.File{Path: "etc/mdev.conf", Mode: 0o644, Text: "$MODALIAS=.* 0:0 660 @modprobe -b \"$MODALIAS\"\n"},
		// A device of the machine asks for a host, the host's disks for their driver.
		initramfs.File{Path: "etc/modprobe.d/a.conf", Mode: 0o644, Text: "alias platform:uml-blkdev scsi_debug\noptions scsi_debug dev_size_mb=1 num_tgts=4\n"})
	disk := filepath.Join(t.TempDir(), "disk")
	if !lab.IsGuest() {
		if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := boot.Options{Files: files, Timeout: time.Minute + time.Duration(n)*3*time.Second,
		Append: []string{fewTerminals, "devspool.rounds=" + rounds, "loglevel=1"}, Devices: []string{"ubd0=" + disk}}
	lab.Run(t, o, func(g *boot.Guest) {
		_, rest, _ := strings.Cut(g.Read("/proc/cmdline"), "devspool.rounds=")
		n, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			g.Fatal(err)
		}
		mountDev(g, "tmpfs")
		stop := startLoop(g)
		for round := range n {
			g.Command(program, "coldplug")
			now := loaded(g)
			for _, name := range []string{"sda", "sdb", "sdc", "sdd"} {
				if _, err := os.Stat("/dev/" + name); err != nil || !now["sd_mod"] {
					g.Fatalf("round %d: the end of the coldplug came too early: %v, modules %v", round, err, now)
				}
			}
			g.Rmmod("scsi_debug")
			g.Rmmod("sd_mod")
			g.Command(program, "settle")
		}
		stop()
		g.Logf("%d rounds", n)
	})
}
