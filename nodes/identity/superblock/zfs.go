package superblock

// A member of a ZFS pool, by the ZFS on-disk specification: of the four labels
// the first one is looked at, in it the list of names and values at 16 KiB. Its
// numbers are big endian (XDR). libblkid counts it as a file system, so that it
// gets links: programs find pools by them.

const (
	zfsOffset = 16 << 10
	zfsList   = 4 << 10 // what is looked for is in the first 4 KiB of the list
)

var zfsFormat = format{
	name: "zfs_member", usage: filesystem, minSize: 64 << 20, big: true,
	// The head of the list: the encoding (1 is XDR), the byte order of the machine that made it and two
	// bytes of 0, then the version 0 and the flag NV_UNIQUE_NAME, in four bytes each.
	magics: []magic{
		{zfsOffset, "\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"},
		{zfsOffset, "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"},
	},
	probe: probeZFS,
}

// probeZFS goes through the list of names and values. Each pair says how long it is, so the
// walk ends where one is shorter than its own head.
func probeZFS(p *probe) bool {
	var version, label, pool, member string
	p.load(zfsOffset, zfsList)
	// Each pair: its length, its length once decoded, the length of the name,
	// the name, the type of the value, the number of values, the value.
	for at := 12; at < zfsList; {
		length, name := int(p.u(at, 4)), int(p.u(at+8, 4))
		if length < 12 || name > length {
			break
		}
		value := at + 12 + (name+3)&^3
		number := decimal(p.u(value+8, 8))
		switch string(p.cut(at+12, name)) {
		case "name":
			label = cString(p.cut(value+12, int(p.u(value+8, 4))))
		case "version":
			version = number
		case "pool_guid":
			pool = number
		case "guid":
			member = number
		}
		at += length
	}
	p.version(version)
	p.setLabel(label)
	p.addText("ID_FS_UUID_SUB", member)
	p.setUUID(pool)
	return version != "" && member != "" && pool != ""
}
