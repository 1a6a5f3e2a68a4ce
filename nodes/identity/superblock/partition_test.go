package superblock

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// tables lists partition tables for sfdisk, with the block size of the disk.
var tables = []struct {
	name   string
	block  int
	script string
}{
	{"gpt", 512, `label: gpt
label-id: 01234567-89AB-CDEF-0123-456789ABCDEF
start=2048,size=2048,name="a b/c\é",uuid=FEDCBA98-7654-3210-FEDC-BA9876543210
start=8192,size=4096,type=U,attrs="LegacyBIOSBootable,GUID:63"
9: start=20480,size=8,name="the longest name of a partition has 36"`},
	{"gpt 4k", 4096, `label: gpt
start=256,size=256,name=one
7: start=1024,size=256,type=S`},
	{"mbr", 512, `label: dos
label-id: 0xdeadbeef
1: start=2048,size=2048,type=83,bootable
2: start=4096,size=32768,type=f
4: start=36864,size=2048,type=7
5: start=6144,size=1024
6: start=10240,size=1024,type=82
7: start=14336,size=2048,type=b`},
	{"mbr 4k", 4096, `label: dos
label-id: 0x00000001
1: start=256,size=256
2: start=512,size=2048,type=5
5: start=768,size=256
6: start=1280,size=256`},
	{"mbr many", 512, `label: dos
label-id: 0x12345678
1: start=2048,type=5
` + manyLogical(13)},
}

func manyLogical(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d: start=%d,size=1024\n", 5+i, 4096*(1+i))
	}
	return b.String()
}

// sysfs returns a number from the directory of a block device.
func sysfs(t *testing.T, dev, attribute string) int64 {
	t.Helper()
	b, err := os.ReadFile("/sys/class/block/" + filepath.Base(dev) + "/" + attribute)
	must(t, err)
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	must(t, err)
	return n
}

// TestPartitions compares what is said about partitions, by their own contents and
// by the table of their disk, with udevd.
func TestPartitions(t *testing.T) {
	needTool(t, "udevadm")
	needTool(t, "sfdisk")
	needTool(t, "mke2fs")
	needTool(t, "partx")
	t.Setenv("DEVSPOOL_TEST_BLKID", "")
	_, version := blkidProgram(t)
	oracle := "udevd " + version
	for _, table := range tables {
		t.Run(table.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image")
			must(t, os.WriteFile(path, nil, 0o644))
			must(t, os.Truncate(path, 32<<20))
			disk := loop(t, path, "-b", strconv.Itoa(table.block))
			c := exec.Command("sfdisk", "-q", disk)
			c.Stdin = strings.NewReader(table.script)
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("sfdisk: %v\n%s", err, out)
			}
			number, err := os.ReadFile("/sys/class/block/" + filepath.Base(disk) + "/dev")
			must(t, err)
			t.Cleanup(func() {
				devs, _ := filepath.Glob(disk + "p*")
				for _, dev := range devs {
					if out, err := exec.Command("delpart", disk, strings.TrimPrefix(dev, disk+"p")).CombinedOutput(); err != nil {
						t.Errorf("delpart: %v: %s", err, out)
					}
				}
			})
			parts := addPartitions(t, disk, table.block)
			for _, dev := range parts {
				contents := open(t, dev, table.block)
				contents.Partition = true
				entry, err := Entry(open(t, disk, table.block), &Partition{
					Number: int(sysfs(t, dev, "partition")),
					Start:  sysfs(t, dev, "start"),
					Size:   sysfs(t, dev, "size"),
					Disk:   strings.TrimSpace(string(number)),
				})
				if err != nil {
					t.Errorf("%s: Entry: %v", dev, err)
				}
				got, want := append(probed(t, contents), entry.Properties...), udevd(t, dev)
				if sysfs(t, dev, "partition") >= firstLogical+maxLogical {
					// Too far down the chain: only the kernel's part.
					want = slices.DeleteFunc(want, func(s string) bool { return strings.HasPrefix(s, "ID_PART_ENTRY_TYPE=") })
				}
				compare(t, table.name, oracle, got, want, map[difference]bool{})
				if uuid := entry.UUID; !slices.Contains(want, "ID_PART_ENTRY_UUID="+uuid) {
					t.Errorf("%s: the UUID is %q", dev, uuid)
				}
			}
			compare(t, table.name, oracle, probed(t, open(t, disk, table.block)), udevd(t, disk), map[difference]bool{})
		})
	}
}

// addPartitions makes the kernel know the partitions of a disk, which it may not
// be able to find itself, and returns their nodes. Extended partitions have the
// size of a block, or two, as the kernel gives them.
func addPartitions(t *testing.T, disk string, block int) (devs []string) {
	t.Helper()
	out, err := exec.Command("partx", "-g", "-o", "NR,START,SECTORS,TYPE", disk).Output()
	must(t, err)
	for _, line := range lines(out) {
		words := strings.Fields(line)
		if words[3] == "0x5" || words[3] == "0xf" {
			words[2] = strconv.Itoa(max(2, block/512))
		}
		if out, err := exec.Command("addpart", disk, words[0], words[1], words[2]).CombinedOutput(); err != nil {
			notTested(t, t.Name(), fmt.Sprintf("partitions of loop devices: %v: %s", err, out))
		}
		devs = append(devs, disk+"p"+words[0])
	}
	return devs
}
