module devspool/initramfs/mkinitramfs/packer

go 1.26.0

require (
	devspool v0.0.0
	github.com/klauspost/compress v1.20.4
	golang.org/x/sys v0.49.0
)

replace devspool => ../../..
