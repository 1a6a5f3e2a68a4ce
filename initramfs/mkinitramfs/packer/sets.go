package main

import "slices"

// set is a list of modules under a name. What a kernel does not have of it is left
// out: kernels name and split modules differently.
type set struct {
	name, help string
	modules    []string // names and aliases
	dirs       []string // of the kernel's tree: all modules below them
	without    []string // what needs modules of these directories does not come by dirs
}

// sets are in the order of the help text. Each is for one question: what may a root
// file system be on, and what does its owner need to unlock it.
var sets = []set{
	{"virtio", "disks of virtual machines",
		[]string{"virtio_pci", "virtio_mmio", "virtio_blk", "virtio_scsi", "sd_mod", "sr_mod"}, nil, nil},
	{"nvme", "NVMe disks", []string{"nvme", "vmd"}, nil, nil},
	{"usb", "USB sticks, and the controllers they hang on",
		[]string{"xhci_pci", "xhci_plat_hcd", "ehci_pci", "ehci_platform", "ohci_pci", "ohci_platform", "uhci_hcd",
			"usb_storage", "uas", "sd_mod", "dwc3", "dwc2", "musb_hdrc"}, []string{"drivers/usb/host", "drivers/usb/storage"}, nil},
	// Adapters for disks on a network need Ethernet drivers, which are large.
	{"scsi", "disks on SATA, SAS and other SCSI controllers",
		[]string{"sd_mod", "sr_mod", "ses"}, []string{"drivers/ata", "drivers/scsi", "drivers/message/fusion", "drivers/cdrom"}, []string{"drivers/net"}},
	{"mmc", "SD cards, eMMC and UFS", nil,
		[]string{"drivers/mmc", "drivers/memstick", "drivers/ufs", "drivers/misc/cardreader"}, nil},
	{"block", "disks of other kinds: Xen, Hyper-V, NVDIMM, firewire, loop, zram, s390's",
		[]string{"xen_blkfront", "xen_scsifront", "hv_storvsc", "hv_vmbus", "loop", "zram", "firewire_ohci", "firewire_sbp2",
			"sbp2", "brd", "null_blk"},
		[]string{"drivers/nvdimm", "drivers/s390/block", "drivers/s390/scsi", "drivers/s390/cio", "drivers/mtd"}, nil},
	{"filesystem", "what a root is formatted with",
		// The nls modules are tables of characters: vfat does not mount without those it is built to use. Nor
		// is ubifs loaded without all of its compressors.
		[]string{"ext4", "xfs", "btrfs", "f2fs", "bcachefs", "vfat", "nls_cp437", "nls_iso8859_1", "nls_ascii", "nls_utf8",
			"isofs", "udf", "squashfs", "erofs", "overlay", "ubifs", "crypto-lzo", "crypto-deflate", "crypto-zstd", "jffs2"}, nil, nil},
	{"md", "RAID, LVM and other device mappers", []string{"dm_mod"}, []string{"drivers/md"}, nil},
	{"crypt", "LUKS", []string{"dm_crypt", "aes_generic", "aesni_intel", "aes_arm64", "aes_ce_blk", "aes_arm_bs", "xts", "cbc", "ecb",
		"essiv", "sha256", "sha512", "algif_skcipher", "algif_hash", "crypto_user"}, nil, nil},
	{"keyboard", "keyboards, for a passphrase",
		[]string{"atkbd", "i8042", "usbhid", "hid_generic", "hid_apple", "hid_lenovo", "hid_logitech_dj", "hid_logitech_hidpp",
			"hid_microsoft", "i2c_hid_acpi", "i2c_hid_of", "virtio_input", "hyperv_keyboard"}, nil, nil},
	{"platform", "clocks, regulators and buses of boards, which their disks need", nil,
		[]string{"drivers/bus", "drivers/clk", "drivers/dma", "drivers/extcon", "drivers/gpio", "drivers/hwspinlock", "drivers/i2c/busses",
			"drivers/i2c/muxes", "drivers/interconnect", "drivers/iommu", "drivers/mailbox", "drivers/mfd", "drivers/nvmem",
			"drivers/pci/controller", "drivers/phy", "drivers/pinctrl", "drivers/pmdomain", "drivers/regulator", "drivers/reset",
			"drivers/rtc", "drivers/soc", "drivers/spi", "drivers/spmi", "drivers/usb/dwc2", "drivers/usb/dwc3", "drivers/usb/phy",
			"drivers/usb/typec", "drivers/virtio"}, nil},
	{"network", "Ethernet", nil, []string{"drivers/net/ethernet", "drivers/net/phy", "drivers/net/mdio", "drivers/net/usb"}, nil},
}

// setOf returns the set of a name, or nil.
func setOf(name string) *set {
	if i := slices.IndexFunc(sets, func(s set) bool { return s.name == name }); i >= 0 {
		return &sets[i]
	}
	return nil
}
