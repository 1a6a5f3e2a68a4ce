package identity

import (
	"golang.org/x/sys/unix"

	"devspool/nodes/identity/superblock"
)

// Superblocks is a Prober.Contents that looks for file systems and partition tables.
func Superblocks(d Disk) []string {
	fd := reader(d.Fd)
	disk := fd.disk()
	disk.Partition, disk.Optical = d.Partition > 0, d.Optical
	found, _ := superblock.Probe(disk) // what could not be read is not there
	properties := found.Properties
	if d.Partition == 0 || d.Whole < 0 {
		return properties
	}
	entry, _ := superblock.Entry(reader(d.Whole).disk(), &superblock.Partition{
		Number: d.Partition, Start: int64(d.Start), Size: int64(d.Size), Disk: d.Numbers})
	if scheme := entry.Get("ID_PART_ENTRY_SCHEME"); scheme != "" && found.Get("ID_PART_TABLE_TYPE") == "" {
		properties = append(properties, "ID_PART_TABLE_TYPE="+scheme) // that of the disk
	}
	return append(properties, entry.Properties...)
}

// reader reads an open disk.
type reader int

func (r reader) ReadAt(p []byte, offset int64) (int, error) { return unix.Pread(int(r), p, offset) }

func (r reader) disk() *superblock.Disk {
	size, _ := unix.Seek(int(r), 0, unix.SEEK_END)
	block, _ := unix.IoctlGetInt(int(r), unix.BLKSSZGET)
	return &superblock.Disk{Contents: r, Size: size, BlockSize: block}
}
