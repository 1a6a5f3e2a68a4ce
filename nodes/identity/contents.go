package identity

import (
	"golang.org/x/sys/unix"

	"devspool/nodes/identity/superblock"
)

// Superblocks is a Prober.Contents that looks for file systems and partition tables.
func Superblocks(d Disk) []string {
	disk := (&reader{fd: d.Fd}).disk()
	if d.Fd < 0 {
		disk = partOf(&d)
	}
	disk.Partition, disk.Optical = d.Partition > 0, d.Optical
	found, _ := superblock.Probe(disk) // what could not be read is not there
	properties := found.Properties
	if d.Partition == 0 || d.Whole < 0 {
		return properties
	}
	entry, _ := superblock.Entry((&reader{fd: d.Whole}).disk(), &superblock.Partition{
		Number: d.Partition, Start: int64(d.Start), Size: int64(d.Size), Disk: d.Numbers})
	// Those of the disk, where the partition has no table of its own.
	if scheme := entry.Get("ID_PART_ENTRY_SCHEME"); scheme != "" && found.Get("ID_PART_TABLE_TYPE") == "" {
		properties = append(properties, "ID_PART_TABLE_TYPE="+scheme)
	}
	if entry.Table != "" && found.Table == "" {
		properties = append(properties, "ID_PART_TABLE_UUID="+entry.Table)
	}
	return append(properties, entry.Properties...)
}

// sector is the unit of Disk.Start and Disk.Size, in bytes.
const sector = 512

// partOf returns the part of the disk that is the partition d. What the kernel's cache of the
// disk holds may be older than what was written to the partition, so it is dropped.
func partOf(d *Disk) *superblock.Disk {
	r := &reader{fd: d.Whole, start: int64(d.Start) * sector}
	disk := r.disk()
	disk.Size = int64(d.Size) * sector
	_ = unix.Fadvise(r.fd, r.start, disk.Size, unix.FADV_DONTNEED) // it only fails for what is no file
	return disk
}

// reader reads an open disk from start on.
type reader struct {
	fd    int
	start int64
}

// ReadAt reads once, from an offset behind start. It may return fewer bytes than p holds and no error:
// the probe then goes on with what it has.
func (r *reader) ReadAt(p []byte, offset int64) (int, error) {
	return unix.Pread(r.fd, p, r.start+offset)
}

// disk returns all of the open disk. A size or block size that the kernel does not tell is 0:
// then nothing, or blocks of 512 bytes, are read.
func (r *reader) disk() *superblock.Disk {
	size, _ := unix.Seek(r.fd, 0, unix.SEEK_END)
	block, _ := unix.IoctlGetInt(r.fd, unix.BLKSSZGET)
	return &superblock.Disk{Contents: r, Size: size, BlockSize: block}
}
