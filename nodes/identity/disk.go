package identity

import (
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// block is for disks and their partitions.
func (s *subject) block() {
	name := s.e.Sysname()
	switch {
	case isNumbered(name, "dm-"):
		s.deviceMapper()
	case strings.HasPrefix(name, "md"):
		s.md()
	case isStorage(name):
		s.storage()
	}
}

// storagePrefixes are the kernel's names for disks that have names. Others (ram0, fd0)
// have none, and nobody reads them.
var storagePrefixes = [...]string{
	"loop", "mmcblk", "msblk", "mspblk", "nvme", "sd", "sr", "vd", "xvd", "bcache", "cciss", "dasd", "ubd",
	"ubi", "scm", "pmem", "nbd", "zd", "rbd", "zram", "ublkb", "dm-", "md",
}

func isStorage(name string) bool {
	for _, prefix := range storagePrefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// isEMMCBoot reports whether a name is that of one of the two small areas that an eMMC
// chip boots from: mmcblk0boot1. They hold no file system.
func isEMMCBoot(name string) bool {
	at := strings.LastIndex(name, "boot")
	return at > 0 && isNumbered(name[:at], "mmcblk") && isNumbered(name[at:], "boot")
}

// diskKinds tells what finds the names that a disk has by what it is.
var diskKinds = [...]struct {
	prefix   string
	identify func(s *subject, disk *dir, suffix string)
}{
	{"nvme", (*subject).nvmeDisk},
	{"vd", (*subject).virtioDisk},
	{"sd", (*subject).scsiDisk},
	{"sr", (*subject).scsiDisk},
	{"cciss", (*subject).scsiDisk},
	{"mmcblk", (*subject).cardDisk},
	{"msblk", (*subject).cardDisk},
	{"mspblk", (*subject).cardDisk},
	{"pmem", (*subject).pmemDisk},
	{"loop", (*subject).loopDisk},
}

func (s *subject) isPartition() bool { return s.devtype == "partition" }

// whole returns the directory of the disk, and what the name of a partition adds to that
// of the disk it lies on.
func (s *subject) whole() (disk *dir, suffix string) {
	if s.isPartition() && s.dev.up != nil {
		return s.dev.up, "-part" + trailingNumber(s.e.Sysname())
	}
	return s.dev, ""
}

func (s *subject) storage() {
	name := s.e.Sysname()
	disk, suffix := s.whole()
	if s.isPartition() && s.dev.has("whole_disk") {
		return // the same as the disk
	}
	for i := range diskKinds {
		if strings.HasPrefix(name, diskKinds[i].prefix) {
			diskKinds[i].identify(s, disk, suffix)
			break
		}
	}
	s.pathID(disk)
	switch {
	case isEMMCBoot(name):
		s.linkPaths("disk/by-path", "-boot"+trailingNumber(name))
	default:
		s.linkPaths("disk/by-path", suffix)
		if s.ataCompat != "" {
			s.link("disk/by-path", s.ataCompat+suffix)
		}
	}
	if strings.HasPrefix(name, "vd") && strings.HasPrefix(s.path, "pci-") {
		s.link("disk/by-path", "virtio-"+s.path+suffix)
	}
	s.inside()
	s.linkContents("filesystem other crypto", "filesystem other crypto")
	if wwn := s.id.Get("ID_WWN_WITH_EXTENSION"); wwn != "" {
		s.link("disk/by-id", "wwn-"+wwn+suffix)
	}
	s.linkPartition("disk")
	if s.path != "" && s.isPartition() {
		below := "disk/by-path/" + cleanName(s.path) + "-part"
		s.link(below+"/by-partnum", trailingNumber(name))
		s.linkPartition(below)
		s.linkContentsBelow(below, "filesystem other crypto", "filesystem other crypto")
	}
	if n, said := s.e.Get("DISKSEQ"); said {
		s.link("disk/by-diskseq", n+suffix)
	}
	s.linkLoop(suffix)
}

// nvmeDisk: the namespace has a name of its own; the model and the serial number are the
// controller's.
func (s *subject) nvmeDisk(disk *dir, suffix string) {
	wwid := substituted(attrAbove(disk, "wwid"))
	model := substituted(attrAbove(disk, "model"))
	serial := substituted(attrAbove(disk, "serial"))
	nsid := substituted(attrAbove(disk, "nsid"))
	s.setUnlessEmpty("ID_SERIAL_SHORT", serial)
	s.setUnlessEmpty("ID_WWN", wwid)
	s.setUnlessEmpty("ID_MODEL", model)
	s.setUnlessEmpty("ID_REVISION", substituted(attrAbove(disk, "firmware_rev")))
	s.setUnlessEmpty("ID_NSID", nsid)
	if wwid != "" {
		s.link("disk/by-id", "nvme-"+wwid+suffix)
	}
	if model == "" || serial == "" {
		return
	}
	// Since the model may have blanks within, there are two ways to write it.
	whole := model + "_" + serial
	if nsid == "1" && !strings.Contains(whole, "/") {
		s.link("disk/by-id", "nvme-"+whole+suffix)
	}
	id := replaceChars(whole, "")
	s.link("disk/by-id", "nvme-"+id+suffix)
	if nsid != "" {
		id = replaceChars(whole+"_"+nsid, "")
		s.link("disk/by-id", "nvme-"+id+suffix)
	}
	s.set("ID_SERIAL", id)
}

// attrAbove reads an attribute that the device has or one above it, "" where none has it.
func attrAbove(d *dir, name string) string {
	for levels := 0; d != nil && levels < 4; d, levels = d.up, levels+1 {
		if value := d.value(name); value != "" {
			return value
		}
	}
	return ""
}

func (s *subject) virtioDisk(disk *dir, suffix string) {
	if serial := substituted(disk.value("serial")); serial != "" {
		s.set("ID_SERIAL", serial)
		s.link("disk/by-id", "virtio-"+serial+suffix)
	}
}

// cardDisk is for SD and MMC cards and memory sticks. The boot areas of an eMMC chip are
// disks of their own, and would have its name.
func (s *subject) cardDisk(disk *dir, suffix string) {
	bus := "memstick"
	if strings.HasPrefix(s.e.Sysname(), "mmcblk") {
		bus = "mmc"
	}
	prefix := disk.name()[:len(disk.name())-len(trailingNumber(disk.name()))]
	if prefix != "mmcblk" && prefix != "msblk" && prefix != "mspblk" {
		return
	}
	card := disk.above(bus)
	if card == nil {
		return
	}
	name, serial := substituted(card.value("name")), substituted(card.value("serial"))
	s.setUnlessEmpty("ID_NAME", name)
	s.setUnlessEmpty("ID_SERIAL", serial)
	if name != "" && serial != "" {
		s.link("disk/by-id", bus+"-"+name+"_"+serial+suffix)
	}
}

func (s *subject) pmemDisk(disk *dir, suffix string) {
	if uuid := substituted(attrAbove(disk, "uuid")); uuid != "" {
		s.link("disk/by-id", "pmem-"+uuid+suffix)
	}
}

// scsiDisk is for all that speaks SCSI on its way to the kernel: ATA and USB disks too.
// What tells the most of a disk comes first.
func (s *subject) scsiDisk(disk *dir, suffix string) {
	name := s.e.Sysname()
	scsi := s.scsiDevice(disk)
	if strings.HasPrefix(name, "sr") {
		s.set("ID_CDROM", "1")
		if name == "sr0" {
			s.link("", "cdrom")
			s.priority = -100
		}
	}
	isATA, onUSB := false, s.onBus("usb")
	if scsi != nil {
		isATA = strings.TrimRight(scsi.value("vendor"), " ") == "ATA" || s.isPacketDevice(scsi)
		isATA = isATA || onUSB && disk.value("removable") == "0"
		if isATA {
			if answer := s.identifyDisk(scsi); answer != "" {
				s.ataID(answer)
			}
		}
	}
	bus := "scsi"
	if strings.HasPrefix(name, "cciss") {
		bus = "cciss"
	}
	if onUSB {
		s.usbID()
	}
	// An ATA disk that is still to be asked is not given SCSI's name for the time being.
	if scsi != nil && s.id.Get("ID_SERIAL") == "" && !(isATA && s.disk.fd < 0 && s.p.Open != nil) {
		s.scsiID(scsi, bus)
	}
	if serial := s.id.Get("ID_SERIAL"); serial != "" {
		s.link("disk/by-id", s.id.Get("ID_BUS")+"-"+serial+suffix)
	}
	if s.id.Get("ID_BUS") == "ata" && scsi != nil && scsi.value("type") == "20" {
		n := scsiNames(scsi.bytes("vpd_pg83", maxPage), scsi.bytes("vpd_pg80", maxPage), scsi.value("vendor"), scsi.value("model"))
		if n.serial != "" {
			s.link("disk/by-id", "scsi-"+word(n.serial, 255)+suffix)
		}
	}
	if serial := s.id.Get("ID_USB_SERIAL"); serial != "" {
		s.link("disk/by-id", "usb-"+serial+suffix)
	}
	if scsi != nil && strings.Contains(scsi.path, "/fw") {
		if id := substituted(attrAbove(scsi, "ieee1394_id")); id != "" {
			s.link("disk/by-id", "ieee1394-"+id+suffix)
		}
	}
}

// isPacketDevice reports whether an optical drive may answer to ATA's commands, which
// those do that follow SPC-3 or later.
func (s *subject) isPacketDevice(scsi *dir) bool {
	if !strings.HasPrefix(s.e.Sysname(), "sr") || scsi.value("type") != "5" {
		return false
	}
	level := scsi.value("scsi_level")
	return level != "" && level[0] >= '6' && level[0] <= '9'
}

// openDisk is a disk that is open to be read.
type openDisk struct {
	fd    int // or -1
	whole int // the disk that it is a partition of, or -1
}

// openDisk opens the device, and for a partition its disk.
func (s *subject) openDisk() {
	fd, err := s.p.Open(s.e.Dev)
	if err != nil {
		return
	}
	s.disk.fd = fd
	if !s.isPartition() || s.dev.up == nil {
		return
	}
	major, minor, ok := uevent.ParseNumbers(s.dev.up.value("dev"))
	if !ok {
		return
	}
	if whole, err := s.p.Open(uevent.Dev{Block: true, Major: major, Minor: minor}); err == nil {
		s.disk.whole = whole
	}
}

func (s *subject) closeDisk() {
	for _, fd := range [...]int{s.disk.fd, s.disk.whole} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	s.disk = openDisk{fd: -1, whole: -1}
}

// wholeFd returns the open disk itself, for a partition that it lies on, or -1.
func (s *subject) wholeFd() int {
	if s.isPartition() {
		return s.disk.whole
	}
	return s.disk.fd
}

// identifyDisk returns the answer to IDENTIFY: from sysfs, or of a disk that is open from
// the disk.
func (s *subject) identifyDisk(scsi *dir) string {
	if answer := pageIdentify(scsi); answer != "" {
		return answer
	}
	if fd := s.wholeFd(); fd >= 0 {
		return askIdentify(fd)
	}
	return ""
}

// readable reports whether the device holds something that can be read now.
func (s *subject) readable() bool {
	name := s.e.Sysname()
	if isEMMCBoot(name) {
		return false
	}
	if size := s.dev.value("size"); size == "" || size == "0" {
		return false // a loop device without a file, a reader without a card, an array that stands still
	}
	return !isNumbered(name, "dm-") || !s.mapper().hidden()
}

// inside adds what the disk holds: by its contents where it is open, and what the kernel
// says of a partition in any case.
func (s *subject) inside() {
	if n, said := s.e.Get("PARTN"); said {
		s.set("ID_PART_ENTRY_NUMBER", n)
	}
	if uuid, said := s.e.Get("PARTUUID"); said {
		s.setUnlessEmpty("ID_PART_ENTRY_UUID", uuid)
	}
	if name, said := s.e.Get("PARTNAME"); said {
		s.setUnlessEmpty("ID_PART_ENTRY_NAME", encode(name))
	}
	if s.disk.fd < 0 {
		return
	}
	optical := strings.HasPrefix(s.e.Sysname(), "sr")
	if optical {
		if !discPresent(s.disk.fd) {
			return
		}
		s.set("ID_CDROM_MEDIA", "1")
	}
	if s.p.Contents == nil {
		return
	}
	d := Disk{Fd: s.disk.fd, Optical: optical, Whole: -1}
	if s.isPartition() {
		d.Whole = s.disk.whole
		n, _ := number(trailingNumber(s.e.Sysname()), 10)
		d.Partition = int(n)
		d.Start, d.Size = parseUint64(s.dev.value("start")), parseUint64(s.dev.value("size"))
	}
	for _, kv := range s.p.Contents(d) {
		key, value, _ := strings.Cut(kv, "=")
		s.set(key, value)
	}
}

// linkContents links a device by the file system on it, if what that is used for is among
// the words given: for uuid, and for label.
func (s *subject) linkContents(uuid, label string) { s.linkContentsBelow("disk", uuid, label) }

func (s *subject) linkContentsBelow(directory, forUUID, forLabel string) {
	usage := s.id.Get("ID_FS_USAGE")
	if usage == "" {
		return
	}
	if uuid := s.id.Get("ID_FS_UUID_ENC"); uuid != "" && strings.Contains(forUUID, usage) {
		s.link(directory+"/by-uuid", uuid)
	}
	if label := s.id.Get("ID_FS_LABEL_ENC"); label != "" && strings.Contains(forLabel, usage) {
		s.link(directory+"/by-label", label)
	}
}

// linkPartition links a partition by its entry in the table. Names are GPT's: other
// tables have none, or the same for all disks.
func (s *subject) linkPartition(directory string) {
	if uuid := s.id.Get("ID_PART_ENTRY_UUID"); uuid != "" {
		s.link(directory+"/by-partuuid", uuid)
	}
	scheme := s.id.Get("ID_PART_ENTRY_SCHEME")
	if name := s.id.Get("ID_PART_ENTRY_NAME"); name != "" && (scheme == "gpt" || scheme == "") {
		s.link(directory+"/by-partlabel", name)
	}
}
