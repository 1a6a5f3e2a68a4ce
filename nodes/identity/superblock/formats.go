package superblock

// usage is what contents are for.
type usage byte

const (
	filesystem usage = iota // the order is that of usages
	raid
	crypto
	other
)

// usages holds the values of ID_FS_USAGE.
var usages = [...]string{"filesystem", "raid", "crypto", "other"}

// format is a kind of contents.
type format struct {
	name string

	// magics are tried in turn, and p.mark is the one that is there. With none
	// at all probe looks for itself.
	magics []magic

	// probe checks what the mark promises and adds properties. It may change
	// p.Type.
	probe func(p *probe) bool

	// minSize is the size in bytes of the smallest disk that holds one.
	minSize uint32

	// wiped is the number of bytes at the begin of the disk that is zeroed when
	// one is made.
	wiped uint16

	usage usage

	// tolerant formats may lie beside others, and the first counts.
	tolerant bool

	// big says that numbers are big endian.
	big bool
}

// magic is a mark of a format.
type magic struct {
	offset int64
	bytes  string
}

// formats holds all formats in the order of libblkid: those that hold others
// first, and where several may lie on one disk, the one that counts first.
var formats = [...]*format{
	&mdFormat,
	&bcacheFormat,
	&lvmFormat,
	&luksFormat,
	&ubiFormat,
	&vfatFormat,
	&swapFormat,
	&xfsFormat,
	&extFormat,
	&jbdFormat,
	&udfFormat,
	&isoFormat,
	&zfsFormat,
	&ntfsFormat,
	&squashfsFormat,
	&btrfsFormat,
	&ubifsFormat,
	&exfatFormat,
	&f2fsFormat,
	&erofsFormat,
	&jffs2Format,
}
