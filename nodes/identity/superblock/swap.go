package superblock

// Swap space and what a suspend to disk makes of it: mm/swapfile.c of Linux. The
// mark is in the last bytes of the first page, the size of which is that of the
// machine which made it.

var swapFormat = format{name: "swap", usage: other, minSize: 10 * 4096, probe: probeSwap}

// swapMarks lists the marks with the version that each stands for. The first two
// are swap space, the others are images of a suspended system.
var swapMarks = [...]struct{ mark, version string }{
	{"SWAP-SPACE", "0"},
	{"SWAPSPACE2", "1"},
	{"S1SUSPEND", "s1suspend"},
	{"S2SUSPEND", "s2suspend"},
	{"ULSUSPEND", "ulsuspend"},
	{"LINHIB0001", "linhib0001"},
}

func probeSwap(p *probe, _ magic) bool {
	for page := 4 << 10; page <= 64<<10; page *= 2 {
		mark := p.at(int64(page)-10, 10)
		if mark == nil {
			return false
		}
		for i, m := range swapMarks {
			if string(mark[:len(m.mark)]) == m.mark {
				return swap(p, page, i, m.version)
			}
		}
	}
	return false
}

func swap(p *probe, page, kind int, version string) bool {
	if kind == 0 {
		p.setVersion(version)
		return true // the old version has nothing else
	}
	b := p.at(1024, 512)
	if b == nil {
		return false
	}
	word := le.Uint32
	if word(b) != 1 {
		word = be.Uint32
	}
	pages := word(b[4:])
	switch {
	case kind > 1:
		p.Type = "swsuspend"
	case word(b) != 1 || pages == 0:
		return false
	}
	// Zeroes behind the label say that it is one.
	if allZero(b[44+4*32 : 44+4*34]) {
		p.setLabel(b[28:44])
		p.setUUID(b[12:28])
	}
	p.setVersion(version)
	if kind == 1 {
		p.setBlockSize(uint64(page))
		p.setLastBlock(uint64(pages) + 1)
		p.setSize(uint64(page) * uint64(pages))
	}
	return true
}
