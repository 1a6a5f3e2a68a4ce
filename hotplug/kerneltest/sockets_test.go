package kerneltest

import (
	"slices"
	"testing"
)

func TestParseSockets(t *testing.T) {
	const head = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
	for _, c := range []struct {
		name, lines string
		want        []UeventSocket
	}{
		{"nobody", "", nil},
		{"the kernel's own", "000000008482c0bb 15  0          00000000 0        0        0     2        0        8\n", nil},
		{"another protocol", "000000008482c0bb 0   37         00000001 5        0        0     2        0        9\n", nil},
		{
			"udev's group", "000000008482c0bb 15  37         00000002 5        0        0     2        0        9\n",
			[]UeventSocket{{Port: 37, Groups: 2, Waiting: 5, Inode: "9"}},
		},
		{
			"a listener", "000000008482c0bb 15  37         00000001 2496     0        0     2        7        91\n",
			[]UeventSocket{{Port: 37, Groups: 1, Waiting: 2496, Drops: 7, Inode: "91"}},
		},
	} {
		if got := parseSockets(head + c.lines); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
