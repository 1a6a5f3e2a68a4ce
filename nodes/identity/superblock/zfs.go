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
	name: "zfs_member", usage: filesystem, minSize: 64 << 20,
	magics: []magic{
		{zfsOffset, "\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"},
		{zfsOffset, "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"},
	},
	probe: probeZFS,
}

func probeZFS(p *probe, _ magic) bool {
	b := p.at(zfsOffset, zfsList)
	if b == nil {
		return false
	}
	var version, label string
	var pool, member uint64
	// Each pair: its length, its length once decoded, the length of the name,
	// the name, the type of the value, the number of values, the value.
	for b = b[12:]; len(b) >= 12; {
		length, name := be.Uint32(b), be.Uint32(b[8:])
		if length < 12 || int64(length) > int64(len(b)) || name > length-12 {
			break
		}
		pair := b[12:length]
		b = b[length:]
		key := string(pair[:name])
		pair = pair[min(int(name+3)&^3, len(pair)):]
		if len(pair) < 12 {
			continue
		}
		switch kind := be.Uint32(pair); {
		case kind == 9 && key == "name":
			size := be.Uint32(pair[8:])
			if pair = pair[12:]; int64(size) <= int64(len(pair)) {
				label = string(pair[:size])
			}
		case kind == 8 && len(pair) >= 16:
			value := be.Uint64(pair[8:])
			switch key {
			case "version":
				version = decimal(value)
			case "pool_guid":
				pool = value
			case "guid":
				member = value
			}
		}
	}
	if version == "" || pool == 0 || member == 0 {
		return false
	}
	p.setVersion(version)
	p.setLabel([]byte(label))
	p.addUUID("ID_FS_UUID_SUB", decimal(member))
	p.setUUIDText(decimal(pool))
	return true
}
