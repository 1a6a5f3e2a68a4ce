package superblock

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

// image is a disk that a shell makes with the tools of each format. $I is the
// image, a sparse file of the size, and $D a directory with a few files.
type image struct {
	name, size, tool, script string
}

const (
	someUUID  = "01234567-89ab-cdef-0123-456789abcdef"
	otherUUID = "fedcba98-7654-3210-fedc-ba9876543210"
)

var images = []image{
	{"empty", "20M", "truncate", ``},
	{"one sector", "512", "truncate", ``},
	{"noise", "8M", "truncate", `yes 'no file system' | head -c 8M > $I`},

	{"ext2", "20M", "mke2fs", `mke2fs -q -t ext2 -L two -U $U $I`},
	{"ext3", "20M", "mke2fs", `mke2fs -q -t ext3 -L three $I`},
	{"ext4", "20M", "mke2fs", `mke2fs -q -t ext4 -L four -U $U $I`},
	{"ext4 no journal", "20M", "mke2fs", `mke2fs -q -t ext4 -O ^has_journal $I`},
	{"ext4 64bit 4k", "200M", "mke2fs", `mke2fs -q -t ext4 -O 64bit -b 4096 -L 'a  b/c' $I`},
	{"ext4 no uuid", "20M", "mke2fs", `mke2fs -q -t ext4 -U clear $I`},
	{"ext2 old revision", "8M", "mke2fs", `mke2fs -q -r 0 $I 2>/dev/null`},
	{"ext journal", "20M", "mke2fs", `mke2fs -q -O journal_dev -L journal -U $U $I`},
	{"ext4 tiny", "1M", "mke2fs", `mke2fs -q -t ext4 -L small $I`},

	{"xfs", "400M", "mkfs.xfs", `mkfs.xfs -q -L exfs -m uuid=$U $I`},
	{"xfs old", "400M", "mkfs.xfs", `mkfs.xfs -q -m crc=0 -b size=1024 $I`},
	{"xfs 4k sectors", "400M", "mkfs.xfs", `mkfs.xfs -q -s size=4096 -L 123456789012 $I`},
	{"btrfs", "200M", "mkfs.btrfs", `mkfs.btrfs -q -L butter -U $U $I`},
	{"btrfs small", "120M", "mkfs.btrfs", `mkfs.btrfs -q -M $I`},
	{"f2fs", "100M", "mkfs.f2fs", `mkfs.f2fs -q -l flash $I`},
	{"f2fs wide label", "100M", "mkfs.f2fs", `LC_ALL=C.UTF-8 mkfs.f2fs -q -l 'größe 日本 😀' $I`},
	{"erofs", "", "mkfs.erofs", `mkfs.erofs --quiet -U $U $I $D`},
	{"squashfs", "", "mksquashfs", `mksquashfs $D $I -quiet -no-progress -noappend`},
	{"squashfs zstd", "", "mksquashfs", `mksquashfs $D $I -quiet -no-progress -noappend -comp zstd -b 64K`},

	{"fat12", "1440K", "mkfs.vfat", `mkfs.vfat -F 12 -n FLOPPY -i 12345678 $I`},
	{"fat12 larger", "4M", "mkfs.vfat", `mkfs.vfat -F 12 $I`},
	{"fat16", "40M", "mkfs.vfat", `mkfs.vfat -F 16 -n 'A B' $I`},
	{"fat16 no serial", "40M", "mkfs.vfat", `mkfs.vfat -F 16 -i 0 $I`},
	{"fat32", "80M", "mkfs.vfat", `mkfs.vfat -F 32 -n THIRTYTWO -i ABCD0123 $I`},
	{"fat32 4k sectors", "300M", "mkfs.vfat", `mkfs.vfat -F 32 -S 4096 -n BIG $I`},
	{"fat32 small clusters", "80M", "mkfs.vfat", `mkfs.vfat -F 32 -s 1 -n BIG $I`},
	{"fat32 label behind files", "80M", "mcopy", `mkfs.vfat -F 32 -s 1 $I && for i in 1 2 3 4 5 6 7 8 9; do echo > $D/f$i; mcopy -i $I $D/f$i ::/a_longer_name_$i; done && mlabel -i $I ::BEHIND`},
	{"fat no name", "40M", "mkfs.vfat", `mkfs.vfat -n 'NO NAME' $I`},
	{"fat32 partition table", "80M", "mkfs.vfat", `mkfs.vfat -F 32 --mbr=yes $I`},
	{"exfat", "40M", "mkfs.exfat", `mkfs.exfat -L extra $I`},
	{"exfat wide label", "40M", "mkfs.exfat", `LC_ALL=C.UTF-8 mkfs.exfat -L 'größe日本' $I`},
	{"exfat no label", "40M", "mkfs.exfat", `mkfs.exfat $I`},
	{"ntfs", "20M", "mkntfs", `mkntfs -q -F -f -L windows $I`},
	{"ntfs wide label", "20M", "mkntfs", `LC_ALL=C.UTF-8 mkntfs -q -F -f -L 'größe 日本 😀' $I`},
	{"ntfs large clusters", "40M", "mkntfs", `mkntfs -q -F -f -c 65536 $I`},
	{"ntfs small clusters", "20M", "mkntfs", `mkntfs -q -F -f -c 512 -s 512 $I`},

	{"iso", "", "genisoimage", `genisoimage -quiet -V DISC -o $I $D`},
	{"iso joliet", "", "genisoimage", `genisoimage -quiet -input-charset utf-8 -J -R -V 'Größe des Datenträgers' -A 'application' -publisher 'ed' -p 'me' -sysid SYS -volset 'many discs' -o $I $D`},
	{"iso joliet lower case", "", "genisoimage", `genisoimage -quiet -J -V 'mixedCase and longer than 16' -publisher _file -o $I $D`},
	{"iso boot", "", "genisoimage", `head -c 4096 /dev/zero > $D/boot && genisoimage -quiet -b boot -no-emul-boot -V BOOT -o $I $D`},
	{"iso hybrid", "", "xorriso", `xorriso -report_about SORRY -as mkisofs -V HYBRID -o $I -partition_offset 16 -append_partition 2 0xef $D/a $D 2>/dev/null`},
	{"iso hybrid large", "", "xorriso", `head -c 2M /dev/zero > $D/b && xorriso -report_about SORRY -as mkisofs -V HYBRID -o $I -partition_offset 16 -append_partition 2 0xef $D/a $D 2>/dev/null`},
	{"iso udf bridge", "", "genisoimage", `genisoimage -quiet -udf -V BRIDGE -o $I $D`},
	{"udf", "20M", "mkudffs", `mkudffs -q -l 'universal' --vid VID --vsid setname --uuid 0123456789abcdef $I 2>/dev/null || mkudffs --new-file -l universal --uuid=0123456789abcdef $I >/dev/null`},
	{"udf optical", "20M", "mkudffs", `mkudffs --utf8 -b 2048 -m cdrw --lvid='größe 日本' --owner=someone $I >/dev/null`},
	{"udf 1024", "20M", "mkudffs", `mkudffs -b 1024 --udfrev=2.01 $I >/dev/null`},
	{"udf 4096", "40M", "mkudffs", `mkudffs -b 4096 --udfrev=2.01 --vsid='no hex name' $I >/dev/null`},
	{"udf 1.02", "20M", "mkudffs", `mkudffs -b 512 --udfrev=1.02 -l old $I >/dev/null`},

	{"swap", "8M", "mkswap", `mkswap -q -L swapped -U $U $I`},
	{"swap 64k pages", "8M", "mkswap", `mkswap -q -p 65536 $I`},
	{"swap small", "40K", "mkswap", `mkswap -q $I`},
	{"swap old", "8M", "dd", `printf SWAP-SPACE | dd of=$I bs=1 seek=4086 conv=notrunc status=none`},
	{"suspended", "8M", "mkswap", `mkswap -q -L zzz $I && printf 'S1SUSPEND\0' | dd of=$I bs=1 seek=4086 conv=notrunc status=none`},
	{"luks1", "20M", "cryptsetup", `echo pw | cryptsetup -q luksFormat --type luks1 --pbkdf-force-iterations 1000 --uuid $U $I -`},
	{"luks2", "40M", "cryptsetup", `echo pw | cryptsetup -q luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --label 'my vault' --subsystem sub $I -`},
	{"luks2 second header", "40M", "cryptsetup", `echo pw | cryptsetup -q luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --label second $I - && dd if=/dev/zero of=$I bs=4096 count=1 conv=notrunc status=none`},
	{"lvm2", "40M", "dd", lvmByHand},
	{"lvm2 sector 3", "40M", "dd", lvmByHand3},
	{"lvm2 pvcreate", "40M", "pvcreate", `L=$(losetup -f --show $I); trap "losetup -d $L" EXIT; lvm pvcreate -qq --config "devices { use_devicesfile=0 filter=[\"a|^$L\$|\", \"r|.*|\"] }" $L`},
	{"md 0.90", "20M", "dd", putAt("20905984", "$D/../md0")},
	{"md 0.90 big endian", "20M", "dd", putAt("20905984", "$D/../md0be")},
	{"md 1.0", "20M", "dd", putAt("20963328", "$D/../md1.0")},
	{"md 1.1", "20M", "dd", putAt("0", "$D/../md1.1")},
	{"md 1.2", "20M", "dd", putAt("4096", "$D/../md1.2")},
	{"md 1.2 elsewhere", "20M", "dd", putAt("4096", "$D/../md1.1")},
	{"md 1.2 wrong sum", "20M", "dd", putAt("4096", "$D/../md1.2") + ` && printf x | dd of=$I bs=1 seek=4300 conv=notrunc status=none`},
	{"md 1.0 over ext4", "20M", "mke2fs", `mke2fs -q -t ext4 $I && ` + putAt("20963328", "$D/../md1.0")},
	{"md 0.90 over mbr", "20M", "sfdisk", `printf 'label: dos\nstart=2048,size=2048\n' | sfdisk -q $I && ` + putAt("20905984", "$D/../md0")},
	{"md 0.90 of a partition", "20M", "sfdisk", `printf 'label: dos\nstart=128\n' | sfdisk -q $I && ` + putAt("20905984", "$D/../md0small")},
	{"bcache", "40M", "make-bcache", `make-bcache -B $I --cset-uuid $U >/dev/null`},
	{"bcache cache", "100M", "make-bcache", `make-bcache -C $I --cset-uuid $U >/dev/null`},
	{"zfs", "100M", "dd", `dd if=$D/../zfs of=$I conv=notrunc status=none`},
	{"ubifs", "", "mkfs.ubifs", `mkfs.ubifs -r $D -m 2048 -e 126976 -c 100 -o $I`},
	{"ubi", "", "ubinize", `printf '[v]\nmode=ubi\nimage=%s\nvol_id=0\nvol_size=1MiB\nvol_name=v\n' $D/a > $D/../cfg && ubinize -Q 1234567 -o $I -m 2048 -p 128KiB $D/../cfg && truncate -s 4M $I`},
	{"jffs2", "", "mkfs.jffs2", `mkfs.jffs2 -r $D -o $I -e 64KiB -p=2097152`},
	{"jffs2 big endian", "", "mkfs.jffs2", `mkfs.jffs2 -b -r $D -o $I -e 64KiB -p=2097152`},

	{"gpt", "20M", "sfdisk", `printf 'label: gpt\nlabel-id: %s\nstart=2048,size=2048,name="a b/c",uuid=%s\nstart=8192,size=4096,type=U,attrs="LegacyBIOSBootable,GUID:63"\n' $U $V | sfdisk -q $I`},
	{"gpt backup", "20M", "sfdisk", `printf 'label: gpt\nstart=2048,size=2048\n' | sfdisk -q $I && dd if=/dev/zero of=$I bs=512 seek=1 count=1 conv=notrunc status=none`},
	{"gpt corrupt", "20M", "sfdisk", `printf 'label: gpt\nstart=2048,size=2048\n' | sfdisk -q $I && for at in 1100 20971400; do printf x | dd of=$I bs=1 seek=$at conv=notrunc status=none; done`},
	{"gpt tiny", "1M", "sfdisk", `printf 'label: gpt\nstart=128,size=128\n' | sfdisk -q $I`},
	{"mbr", "20M", "sfdisk", `printf 'label: dos\nlabel-id: 0x00123456\n1: start=2048,size=2048,type=83,bootable\n2: start=4096,size=20480,type=5\n5: start=6144,size=1024\n6: start=10240,size=1024,type=82\n7: start=14336,size=2048\n' | sfdisk -q $I`},
	{"mbr no id", "20M", "sfdisk", `printf 'label: dos\nlabel-id: 0x0\nstart=2048,size=2048\n' | sfdisk -q $I; printf '\0\0\0\0' | dd of=$I bs=1 seek=440 conv=notrunc status=none`},
	{"mbr empty", "20M", "sfdisk", `printf 'label: dos\n' | sfdisk -q $I`},
	{"mbr tiny", "1M", "sfdisk", `printf 'label: dos\nstart=128,size=128\n' | sfdisk -q $I`},

	// Several signatures on one disk.
	{"ext4 over gpt", "20M", "sfdisk", `printf 'label: gpt\nstart=2048,size=2048\n' | sfdisk -q $I && mke2fs -q -F -t ext4 $D/../x 8M && dd if=$D/../x of=$I bs=512 skip=2 seek=34 count=1 conv=notrunc status=none`},
	{"ext4 and xfs", "400M", "mkfs.xfs", `mke2fs -q -t ext4 $I && truncate -s 400M $D/../x && mkfs.xfs -q $D/../x && dd if=$D/../x of=$I bs=512 count=1 conv=notrunc status=none; rm $D/../x`},
	{"ext4 and swap", "20M", "mkswap", `mke2fs -q -t ext4 $I && printf SWAPSPACE2 | dd of=$I bs=1 seek=4086 conv=notrunc status=none`},
	{"swap and bcache", "40M", "make-bcache", `make-bcache -B $I >/dev/null && truncate -s 40M $D/../x && mkswap -q $D/../x && dd if=$D/../x of=$I bs=4096 count=1 conv=notrunc status=none; rm $D/../x`},
	{"ext4 and iso", "20M", "genisoimage", `genisoimage -quiet -V ISO -o $D/../x $D && mke2fs -q -t ext4 $I && dd if=$D/../x of=$I bs=2048 skip=16 seek=16 count=4 conv=notrunc status=none`},
	{"luks and ext4", "20M", "cryptsetup", `mke2fs -q -t ext4 $I && truncate -s 20M $D/../x && echo pw | cryptsetup -q luksFormat --type luks1 --pbkdf-force-iterations 1000 $D/../x - && dd if=$D/../x of=$I bs=512 count=1 conv=notrunc status=none`},
	{"lvm2 and mbr", "40M", "sfdisk", lvmByHand + ` && printf 'label: dos\nstart=2048,size=2048\n' | sfdisk -q --wipe never $I`},
	{"lvm2 and gpt", "40M", "sfdisk", `printf 'label: gpt\nstart=2048,size=2048\n' | sfdisk -q $I && ` + lvmByHand3},
	{"bcache and mbr", "40M", "sfdisk", `make-bcache -B $I >/dev/null && printf 'label: dos\nstart=2048,size=2048\n' | sfdisk -q --wipe never $I`},
	{"btrfs and fat", "200M", "mkfs.btrfs", `mkfs.btrfs -q $I && truncate -s 80M $D/../x && mkfs.vfat -F 16 $D/../x >/dev/null && dd if=$D/../x of=$I bs=512 count=1 conv=notrunc status=none; rm $D/../x`},
	{"floppy and ext2", "1440K", "mkfs.vfat", `mke2fs -q -t ext2 $I && mkfs.vfat -F 12 -I $D/../y -C 1440 >/dev/null && dd if=$D/../y of=$I bs=512 count=1 conv=notrunc status=none`},

	// Labels that lie.
	{"label dots", "20M", "mke2fs", `mke2fs -q -L '../../etc/passw' $I`},
	{"label newline", "20M", "mke2fs", `mke2fs -q -L "$(printf 'a\nID_FS_UUID=x')" $I`},
	{"label escape", "20M", "mke2fs", `mke2fs -q -L "$(printf ' \033[31m\\x41 \t$(id) ')" $I`},
	{"label invalid utf8", "20M", "mke2fs", `mke2fs -q -L "$(printf 'a\377\300\200\355\240\200b')" $I`},
	{"label cut utf8", "20M", "mke2fs", `mke2fs -q -L "$(printf 'abcdefghijklmn\303\244')" $I`},
	{"label noncharacter", "20M", "mke2fs", `mke2fs -q -L "$(printf '\357\277\276\357\277\277\357\267\220x')" $I`},
	{"label blanks", "20M", "mke2fs", `mke2fs -q -L '      ' $I`},
	{"label longest", "200M", "mkfs.btrfs", `mkfs.btrfs -q -L "$(head -c 255 /dev/zero | tr '\0' x)" $I`},
	{"label longest encoded", "200M", "mkfs.btrfs", `mkfs.btrfs -q -L "$(head -c 255 /dev/zero | tr '\0' /)" $I`},
	{"label longest utf16", "100M", "mkfs.f2fs", `mkfs.f2fs -q $I && head -c 1024 /dev/zero | tr '\0' '\143' | dd of=$I bs=1 seek=1148 conv=notrunc status=none; ` + f2fsNoSum},
	{"label surrogates", "100M", "mkfs.f2fs", `mkfs.f2fs -q $I && printf 'a\0\0\330b\0\0\334\0\330\0\334\075\330\000\336' | dd of=$I bs=1 seek=1148 conv=notrunc status=none; ` + f2fsNoSum},
}

// f2fsNoSum takes the checksum off a superblock that was changed.
const f2fsNoSum = `printf '\0\0\0\0' | dd of=$I bs=1 seek=1056 conv=notrunc status=none`

func putAt(offset string, file string) string {
	return `dd if=` + file + ` of=$I bs=1 seek=` + offset + ` conv=notrunc status=none`
}

// The label of a physical volume, made by makeLVM: pvcreate takes block devices
// only.
var (
	lvmByHand  = putAt("512", "$D/../lvm1")
	lvmByHand3 = putAt("1536", "$D/../lvm3")
)

// makeLVM returns the sector with the label of a physical volume.
func makeLVM(sector uint64) []byte {
	b := make([]byte, 512)
	copy(b, "LABELONE")
	le.PutUint64(b[8:], sector)
	le.PutUint32(b[20:], 32)
	copy(b[24:], "LVM2 001")
	copy(b[32:], "ABCDEF0123456789abcdefghijklmnop")
	le.PutUint64(b[64:], 40<<20)
	le.PutUint32(b[16:], uint32((&probe{Result: &Result{}, b: b}).crc32(0xf597a6cf, 20, 492)))
	return b
}

// makeMD0 returns an md superblock of version 0.90 for an array of a size in KiB.
func makeMD0(order binary.ByteOrder, size uint32) []byte {
	b := make([]byte, mdSize)
	for at, n := range map[int]uint32{0: mdMagic, 8: 90, 20: 0x01234567, 24: 1700000000, 28: 1, 32: size, 36: 2, 40: 2,
		52: 0x89abcdef, 56: 0xfedcba98, 60: 0x76543210} {
		order.PutUint32(b[at:], n)
	}
	sum := uint64(0)
	for i := 0; i < len(b); i += 4 {
		sum += uint64(order.Uint32(b[i:]))
	}
	order.PutUint32(b[152:], uint32(sum)+uint32(sum>>32))
	return b
}

// makeMD1 returns an md superblock of version 1 for an offset of the disk.
func makeMD1(offset uint64) []byte {
	b := make([]byte, mdSize)
	le.PutUint32(b, mdMagic)
	le.PutUint32(b[4:], 1)
	copy(b[16:], "0123456789abcdef")
	copy(b[32:], "host name:array/0")
	le.PutUint32(b[72:], 1)
	le.PutUint64(b[80:], 20000)
	le.PutUint32(b[92:], 2)
	le.PutUint64(b[128:], 2048)
	le.PutUint64(b[136:], 20000)
	le.PutUint64(b[144:], offset/512)
	copy(b[168:], "fedcba9876543210")
	le.PutUint32(b[220:], 3)
	le.PutUint16(b[258:], 1)
	le.PutUint32(b[216:], uint32(mdSum(&probe{b: b[:256+6]})))
	return b
}

// makeZFS returns the begin of a member of a pool: the list of names in its label
// and four uberblocks.
func makeZFS() []byte {
	b := make([]byte, 256<<10)
	list := append([]byte{}, "\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"...)
	pair := func(name string, kind uint32, value []byte) {
		p := make([]byte, 12)
		be.PutUint32(p[8:], uint32(len(name)))
		p = append(p, name...)
		for len(p)%4 != 0 {
			p = append(p, 0)
		}
		p = be.AppendUint32(p, kind)
		p = be.AppendUint32(p, 1)
		p = append(p, value...)
		be.PutUint32(p, uint32(len(p)))
		be.PutUint32(p[4:], uint32(len(p)))
		list = append(list, p...)
	}
	number := func(name string, n uint64) { pair(name, 8, be.AppendUint64(nil, n)) }
	number("version", 5000)
	pair("name", 9, append(be.AppendUint32(nil, 4), "tank"...))
	number("state", 0)
	number("txg", 4)
	number("pool_guid", 17283764528374652837)
	number("top_guid", 1)
	number("guid", 9283746528374651234)
	list = append(list, 0, 0, 0, 0, 0, 0, 0, 0)
	copy(b[16<<10:], list)
	for i := range 6 {
		u := b[128<<10+1024*i:]
		le.PutUint64(u, 0xbab10c)
		le.PutUint64(u[8:], 5000)
		le.PutUint64(u[16:], uint64(i))
	}
	return b
}

// notTested skips the test, or fails it where everything has to be tested.
func notTested(t *testing.T, what, needs string) {
	t.Helper()
	line := "NOT TESTED: " + what + ": needs " + needs
	if os.Getenv("DEVSPOOL_TEST_ALL") == "1" {
		t.Fatal(line)
	}
	t.Skip(line)
}

// needTool looks for a program, in sbin too.
func needTool(t *testing.T, tool string) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	if _, err := exec.LookPath(tool); err != nil {
		notTested(t, t.Name(), tool)
	}
}

// make makes the image in a directory and returns its path.
func (i image) make(t *testing.T) string {
	t.Helper()
	needTool(t, i.tool)
	dir := t.TempDir()
	path := filepath.Join(dir, "image")
	files := filepath.Join(dir, "files")
	must(t, os.Mkdir(files, 0o755))
	must(t, os.WriteFile(filepath.Join(files, "a"), bytes.Repeat([]byte("text "), 20000), 0o644))
	for name, contents := range map[string][]byte{
		"lvm1": makeLVM(1), "lvm3": makeLVM(3), "zfs": makeZFS(),
		"md0": makeMD0(le, 20000), "md0be": makeMD0(be, 20000), "md0small": makeMD0(le, 10000),
		"md1.0": makeMD1(20963328), "md1.1": makeMD1(0), "md1.2": makeMD1(4096),
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), contents, 0o644))
	}
	script := i.script
	if i.size != "" {
		script = "truncate -s " + i.size + " $I\n" + script
	}
	c := exec.Command("sh", "-ec", script)
	c.Dir = dir
	c.Env = append(os.Environ(), "I="+path, "D="+files, "U="+someUUID, "V="+otherUUID, "SOURCE_DATE_EPOCH=1700000000")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", i.name, err, out)
	}
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
