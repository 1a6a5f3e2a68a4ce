package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"devspool/hotplug/kerneltest"
	"devspool/nodes/identity/superblock"
)

// nameless is the program built without names, in the place of the rival.
const nameless = "nonames"

// names measures what it costs to give devices the names that they deserve.
func (b *bench) names() error {
	all := b.contestants
	defer func() { b.contestants = all }()
	withNames := all[0]
	withNames.named = true
	b.contestants = []contestant{withNames, {name: rival, path: b.jail.program(namelessFile)}}
	for _, c := range all {
		if c.name != ours && c.name != rival { // those of DEVSPOOL_BESIDE
			c.named = true
			b.contestants = append(b.contestants, c)
		}
	}
	b.report.beside(nameless, "Names", "a coldplug of this machine, %d devices, least of %d runs", countDevices(), b.scanRounds())
	if err := b.scanned("CPU, no rules", emptyConf, milliseconds, 1.5, b.scanRounds(), b.oneShot); err != nil {
		return err
	}
	return errors.Join(b.reading(), b.nameLoops())
}

// nameLoops measures the CPU per event of a loop to which no disk comes.
func (b *bench) nameLoops() error {
	const target = 1.05
	events := b.opts.scaled(20_000)
	b.report.beside(nameless, "Names of a loop", "CPU per event, least of %d runs of %s events", 2*b.opts.rounds(), count(float64(events)))
	s, err := b.newStage(events)
	if err != nil {
		return err
	}
	defer s.close()
	loads, err := s.loads()
	if err != nil {
		return err
	}
	all, err := sysEvents("/sys")
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(all, func(e kerneltest.Event) bool { return e.Subsystem() == "block" })
	for _, l := range []load{
		loads[0],
		{"all of /sys but disks in turn", "", nil, events, s.repeat(others, countDevices())},
	} {
		best, err := b.eventCPU(emptyConf, l, 2*b.opts.rounds())
		if err != nil {
			return err
		}
		b.report.ratio(l.name, best, microseconds, target)
	}
	return nil
}

// disks are what disks hold of which the reads are counted: a line of shell makes the
// file $I, of 64 MiB.
var disks = []struct{ tool, line string }{
	{"true", "true"}, // nothing, where all has to be looked for
	{"mke2fs", "mke2fs -q -t ext4 -L label $I"},
	{"mkfs.vfat", "mkfs.vfat -F 32 -n LABEL $I"},
	{"mkfs.exfat", "mkfs.exfat -L label $I"},
	{"mkntfs", "mkntfs -q -F -f -L label $I"},
	{"mkswap", "mkswap -L label $I"},
	{"sfdisk", "printf 'label: gpt\\nsize=16M\\nsize=16M\\n' | sfdisk -q $I"},
}

// counter counts what is read of a disk.
type counter struct {
	*os.File
	reads, bytes float64
}

func (c *counter) ReadAt(p []byte, offset int64) (int, error) {
	c.reads++
	c.bytes += float64(len(p))
	return c.File.ReadAt(p, offset)
}

// reading counts the reads of a disk.
func (b *bench) reading() error {
	const (
		size     = 64 << 20
		maxReads = 12
		maxBytes = 300 << 10
	)
	image := filepath.Join(b.jail.dir, "image")
	defer os.Remove(image)
	reads, bytes, kinds := figures{}, figures{}, 0
	for _, d := range disks {
		if _, err := exec.LookPath(d.tool); err != nil {
			b.report.note("NOT MEASURED: reads of a disk: %s is not installed", d.tool)
			continue
		}
		file, err := os.Create(image)
		if err != nil {
			return err
		}
		if err := errors.Join(file.Truncate(size), b.jail.command(contestant{path: "sh"}, []string{"-c", "I=" + image + "; " + d.line}).Run()); err != nil {
			return errors.Join(err, file.Close())
		}
		c := &counter{File: file}
		if _, err := superblock.Probe(&superblock.Disk{Contents: c, Size: size, BlockSize: 512}); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", d.line, err), file.Close())
		}
		if err := file.Close(); err != nil {
			return err
		}
		reads.most(ours, c.reads)
		bytes.most(ours, c.bytes)
		kinds++
	}
	b.report.limit(fmt.Sprintf("reads of a disk, most of %d kinds", kinds), reads, count, maxReads)
	b.report.limit("  bytes read of it", bytes, count, maxBytes)
	return nil
}
