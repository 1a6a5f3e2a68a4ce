package superblock

// The values of ID_FS_USAGE.
const (
	filesystem = "filesystem"
	raid       = "raid"
	crypto     = "crypto"
	other      = "other"
)

// format is a kind of contents.
type format struct {
	name  string
	usage string

	// magics are tried in turn, and p.mark is the one that is there. With none
	// at all probe looks for itself.
	magics []magic

	// probe checks what the mark promises and adds properties. It may change
	// p.Type and p.Usage.
	probe func(p *probe) bool

	// minSize is the size in bytes of the smallest disk that holds one.
	minSize int64

	// wiped is the number of bytes at the begin of the disk that is zeroed when
	// one is made.
	wiped int

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
