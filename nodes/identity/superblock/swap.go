package superblock

// Swap space and what a suspend to disk makes of it: mm/swapfile.c of Linux. The
// mark is in the last bytes of the first page, the size of which is that of the
// machine which made it.

var swapFormat = format{name: "swap", usage: other, minSize: 10 * 4096, probe: probeSwap}

// swapMarks lists the marks with the version that each stands for. The first two
// are swap space, the others are images of a suspended system.
var swapMarks = [...][2]string{
	{"SWAP-SPACE", "0"},
	{"SWAPSPACE2", "1"},
	{"S1SUSPEND", "s1suspend"},
	{"S2SUSPEND", "s2suspend"},
	{"ULSUSPEND", "ulsuspend"},
	{"LINHIB0001", "linhib0001"},
}

// probeSwap tries the sizes of a page, as the mark is at the end of the first one.
func probeSwap(p *probe) bool {
	// Pages have 4 to 64 KiB.
	page, kind := 2<<10, len(swapMarks)
	for kind == len(swapMarks) {
		if page *= 2; page > 64<<10 || !p.load(int64(page)-10, 10) {
			return false
		}
		for kind = 0; kind < len(swapMarks) && !p.is(0, swapMarks[kind][0]); kind++ {
		}
	}
	// Behind 1024 bytes for a boot loader: the version, the number of the last page, that of bad ones, the
	// UUID (12) and the label (28), by union swap_header of linux/swap.h.
	if p.load(1024, 512); kind > 0 { // the old version has nothing else
		p.big = p.u(0, 4) != 1
		pages := p.u(4, 4)
		if kind > 1 {
			p.Type = "swsuspend"
		} else if p.u(0, 4) != 1 || pages == 0 {
			return false
		}
		// Zeroes behind the label say that it is one.
		if p.zero(172, 8) {
			p.label(28, 16)
			p.uuid(12)
		}
		if kind == 1 {
			p.sizes(uint64(page), pages+1, uint64(page)*pages)
		}
	}
	p.version(swapMarks[kind][1])
	return true
}
