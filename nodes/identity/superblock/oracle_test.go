package superblock

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// difference is a property in which Probe is not to agree with an oracle.
type difference struct {
	images  string // a pattern for the name of the image
	keys    string // a pattern for the name of the property
	oracles string // a pattern for the name of the oracle
	reason  string
}

// differences lists where Probe and the oracles differ on purpose. The oracles
// are udevd, and blkid with its version. Each line has to be needed.
var differences = []difference{
	{"*", "ID_FS_BLOCK_SIZE", "blkid *", "udevd does not keep it"},
	{"*", "ID_FS_SEC_TYPE", "blkid *", "udevd does not keep it"},
	{"*", "ID_FS_LABEL_FATBOOT*", "blkid *", "udevd does not keep it"},
	{"*", "ID_FS_LOGUUID", "blkid *", "udevd does not keep it"},
	{"*", "ID_FS_SUBSYSTEM", "blkid *", "udevd does not keep it"},
	{"*", "ID_FS_ENDIANNESS", "blkid 2.4*", "udevd does not keep it"},
	{"*", "ID_FS_BLOCKSIZE", old, "new in 2.39"},
	{"*", "ID_FS_LASTBLOCK", old, "new in 2.39"},
	{"*", "ID_FS_SIZE", old, "new in 2.39"},
	{"*bcache*", "ID_FS_VERSION", old, "new in 2.39"},
	{"exfat*", "ID_PART_TABLE_*", old, "the boot sector of exFAT is no partition table, as 2.39 knows too"},
	{"bcache and mbr", "ID_FS_*", old, "a partition table where bcache wipes the disk is younger, as 2.39 knows too"},
	{"md 1.2 wrong sum", "ID_FS_*", old, "the sum is checked since 2.39"},
	{"md 0.90 of a partition", "ID_*", "* 2.4*", "2.41 takes what belongs to the last partition for the disk's; 2.38 does not"},
	{"iso hybrid", "ID_FS_*", "blkid *", "on a disk as small as a floppy the partition table counts alone; to blkid a file is no whole disk"},
	{"jffs2*", "ID_FS_*", "*", "libblkid does not know JFFS2"},
	{"label escape", "ID_FS_LABEL", "*", "a control character goes to no terminal: libblkid takes it for valid UTF-8"},
	{"label longest *", "ID_FS_LABEL_ENC", "*", "what does not fit is cut where a character ends; blkid has a longer buffer"},
}

// overlayDifferences are those of TestOverlays.
var overlayDifferences = []difference{
	{"md 1.0 over exfat", "ID_PART_TABLE_*", old, "the boot sector of exFAT is no partition table, as 2.39 knows too"},
	{"udf over exfat", "ID_PART_TABLE_*", old, "the boot sector of exFAT is no partition table, as 2.39 knows too"},
	{"mbr over exfat", "ID_FS_*", old, "exFAT has a checksum, as 2.39 knows too"},
	{"* over exfat", "ID_*", old, "exFAT has a checksum, as 2.39 knows too"},
	{"* over ubifs", "ID_FS_*", old, "UBIFS has a checksum, as 2.39 knows too"},
	{"ntfs over bcache", "ID_FS_*", old, "a partition table where bcache wipes the disk is younger, as 2.39 knows too"},
	{"mbr over xfs", "ID_FS_*", "* 2.4*", "the sum of a file system that may be mounted is not checked"},
	{"bcache over mbr", "ID_FS_*", old, "a partition table where bcache wipes the disk is younger, as 2.39 knows too"},
	{"mbr over bcache", "ID_FS_*", old, "a partition table where bcache wipes the disk is younger, as 2.39 knows too"},
	{"gpt over zfs", "ID_FS_*", old, "the first label of ZFS is damaged, others are not looked at"},
}

// old matches the oracles with libblkid before 2.39, as that of Debian 12.
const old = "* 2.3[0-8]"

func (d difference) covers(image, key, oracle string) bool {
	for pattern, name := range map[string]string{d.images: image, d.keys: key, d.oracles: oracle} {
		if ok, err := filepath.Match(pattern, name); err != nil || !ok {
			return false
		}
	}
	return true
}

// counter is a disk image that counts what is read, and checks that reads are
// aligned.
type counter struct {
	t     testing.TB
	r     Reader
	size  int64
	block int64
	reads int
	bytes int64
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	c.reads++
	c.bytes += int64(len(p))
	if off < 0 || off+int64(len(p)) > c.size {
		c.t.Errorf("a read of %d bytes at %d is outside of the disk", len(p), off)
	}
	if off%c.block != 0 || int64(len(p))%c.block != 0 || len(p) == 0 {
		c.t.Errorf("a read of %d bytes at %d is not aligned to %d", len(p), off, c.block)
	}
	return c.r.ReadAt(p, off)
}

func (c *counter) check() {
	c.t.Helper()
	if c.reads > maxReads || c.bytes > maxBytes {
		c.t.Errorf("%d reads of %d bytes, the limit is %d of %d", c.reads, c.bytes, maxReads, maxBytes)
	}
}

// open opens an image or a block device as a disk that checks how much is read.
func open(t testing.TB, path string, block int) *Disk {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Seek(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{t: t, r: f, size: size, block: int64(block)}
	t.Cleanup(func() {
		f.Close()
		c.check()
	})
	return &Disk{Contents: c, Size: size, BlockSize: block}
}

func probed(t testing.TB, d *Disk) []string {
	t.Helper()
	r, err := Probe(d)
	if err != nil {
		t.Errorf("Probe: %v", err)
	}
	if (r.Ambivalent || r.Properties == nil) && (r.Type != "" || r.Properties != nil) {
		t.Errorf("a result that contradicts itself: %+v", *r)
	}
	return r.Properties
}

// blkidProgram returns the path of blkid, which the environment may say, and the
// version of its library.
func blkidProgram(t *testing.T) (program, version string) {
	t.Helper()
	program = os.Getenv("DEVSPOOL_TEST_BLKID")
	if program == "" {
		needTool(t, "blkid")
		program = "blkid"
	}
	out, err := exec.Command(program, "-V").CombinedOutput()
	must(t, err)
	match := regexp.MustCompile(`util-linux (\d+\.\d+)`).FindStringSubmatch(string(out))
	if match == nil {
		t.Fatalf("blkid has no version: %s", out)
	}
	return program, match[1]
}

// blkid runs the program and returns what it prints in the form that udevd
// stores.
func blkid(t *testing.T, program, path string) (properties []string) {
	t.Helper()
	out, err := exec.Command(program, "-p", "-o", "udev", path).Output()
	if e, ok := err.(*exec.ExitError); ok && (e.ExitCode() == 2 || e.ExitCode() == 8) {
		err = nil // nothing found, or ambivalent
	}
	if err != nil {
		t.Fatalf("blkid: %v", err)
	}
	for _, property := range lines(out) {
		if strings.HasPrefix(property, "ID_FS_AMBIVALEN") {
			return nil
		}
		properties = append(properties, asUdevd(property))
	}
	return properties
}

// lines splits at newlines only: a label may have what Unicode takes for one.
func lines(b []byte) []string {
	return strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' })
}

// asUdevd returns a property that blkid prints as udevd stores it.
func asUdevd(property string) string {
	key, value, _ := strings.Cut(property, "=")
	switch key {
	case "ID_FS_FSSIZE", "ID_FS_FSLASTBLOCK", "ID_FS_FSBLOCKSIZE":
		key = "ID_FS_" + strings.TrimPrefix(key, "ID_FS_FS")
	case "ID_FS_VERSION":
		value = strings.ReplaceAll(value, `\x20`, " ") // encoded by blkid only
	case "ID_FS_SYSTEM_ID", "ID_FS_PUBLISHER_ID", "ID_FS_APPLICATION_ID", "ID_FS_BOOT_SYSTEM_ID",
		"ID_FS_VOLUME_ID", "ID_FS_LOGICAL_VOLUME_ID", "ID_FS_VOLUME_SET_ID", "ID_FS_DATA_PREPARER_ID":
		if !strings.Contains(value, `\x`) {
			value = Encode(value) // encoded by udevd, and by some versions of blkid
		}
	}
	return key + "=" + value
}

// compare compares the properties of an image with those of an oracle, and marks
// the differences that it needs in used.
func compare(t *testing.T, image, oracle string, got, want []string, used map[difference]bool) {
	t.Helper()
	report := func(sign, property string) {
		key, _, _ := strings.Cut(property, "=")
		for _, d := range append(differences[:len(differences):len(differences)], overlayDifferences...) {
			if d.covers(image, key, oracle) {
				used[d] = true
				return
			}
		}
		t.Errorf("%s: %s %q (%s)", image, sign, property, oracle)
	}
	for _, property := range want {
		if !slices.Contains(got, property) {
			report("missing:", property)
		}
	}
	for _, property := range got {
		if !slices.Contains(want, property) {
			report("too much:", property)
		}
	}
}

// TestBlkid compares what Probe says about an image of each kind with what blkid
// does. Another blkid can be given in the environment.
func TestBlkid(t *testing.T) {
	program, version := blkidProgram(t)
	compareAll(t, "blkid "+version, func(t *testing.T, path string) (string, []string) {
		return path, blkid(t, program, path)
	})
}

// TestUdevd compares with the program inside udevd, on loop devices.
func TestUdevd(t *testing.T) {
	needTool(t, "udevadm")
	t.Setenv("DEVSPOOL_TEST_BLKID", "") // udevd has its library from the system
	_, version := blkidProgram(t)
	compareAll(t, "udevd "+version, func(t *testing.T, path string) (string, []string) {
		dev := loop(t, path)
		return dev, udevd(t, dev)
	})
}

// compareAll compares each image with an oracle. The function returns the path to
// be probed.
func compareAll(t *testing.T, oracle string, ask func(t *testing.T, path string) (string, []string)) {
	used := map[difference]bool{}
	all := true
	for _, i := range images {
		all = t.Run(i.name, func(t *testing.T) {
			path, want := ask(t, i.make(t))
			compare(t, i.name, oracle, probed(t, open(t, path, 512)), want, used)
		}) && all
	}
	if all {
		checkUsed(t, differences, oracle, used)
	}
}

// checkUsed fails for each difference with an oracle that no image needed.
func checkUsed(t *testing.T, list []difference, oracle string, used map[difference]bool) {
	t.Helper()
	for _, d := range list {
		if ok, _ := filepath.Match(d.oracles, oracle); ok && !used[d] {
			t.Errorf("no image needs the difference %+v", d)
		}
	}
}

// loop makes a loop device of an image, and takes it down at the end of the test.
func loop(t *testing.T, path string, options ...string) (dev string) {
	t.Helper()
	needTool(t, "losetup")
	out, err := exec.Command("losetup", append(options, "-f", "--show", path)...).Output()
	if err != nil {
		notTested(t, t.Name(), "loop devices: "+err.Error())
	}
	dev = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", dev).CombinedOutput(); err != nil {
			t.Errorf("losetup -d: %v: %s", err, out)
		}
	})
	return dev
}

// udevd returns what udevd would set for a block device.
func udevd(t *testing.T, dev string) (properties []string) {
	t.Helper()
	out, _ := exec.Command("udevadm", "test-builtin", "blkid", "/sys/class/block/"+filepath.Base(dev)).Output()
	for _, line := range lines(out) {
		if strings.HasPrefix(line, "ID_") && !strings.HasPrefix(line, "ID_LOOP_") {
			properties = append(properties, line)
		}
	}
	return properties
}

// TestImages shows that the images that are to be found nothing in are few, so
// that no other agrees with an oracle for want of contents.
func TestImages(t *testing.T) {
	nothing := []string{"empty", "one sector", "md 1.2 elsewhere", "md 1.2 wrong sum", "ext4 and xfs", "swap and bcache",
		"ext4 and iso", "btrfs and fat"}
	for _, g := range readGolden(t) {
		if found := g.Properties != nil; found == slices.Contains(nothing, g.Name) {
			t.Errorf("%s: found is %v", g.Name, found)
		}
	}
}
