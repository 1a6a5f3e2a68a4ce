package nodes

import (
	"strings"
	"testing"

	"devspool/hotplug/uevent"
)

// TestInstance plays events of one disk, late ones with an L before them, and shows of
// each whether the device was set up before, and what the record says in the end.
func TestInstance(t *testing.T) {
	const path = "devpath=/devices/test/sda subsystem=block devname=sda"
	for _, c := range []struct {
		name   string
		script string // ACTION/DISKSEQ, and =was or =new where that is to be seen
		record string // without the ID; "" for none
	}{
		{"added again", "add/1=new add/1=was", path + " diskseq=1 node=sda"},
		{"another disk", "add/1=new add/2=new add/2=was", path + " diskseq=2 node=sda"},
		{"no number", "add/=new add/=was add/3=was add/=was", path + " diskseq=3 node=sda"},
		{"another medium", "add/1=new change/2 add/2=was", path + " diskseq=2 node=sda"},
		{"removed", "add/1=new remove/1 add/1=new remove/1", ""},
		{"a late remove", "add/1=new Lremove/1", path + " diskseq=1 state=ended node=sda"},
		{"a late remove, and another", "add/=new Lremove/ add/=new add/=was", path + " node=sda"},
		{"a late remove of an earlier disk", "add/2=new Lremove/1 add/2=was", path + " diskseq=2 node=sda"},
		{"a late add", "Ladd/1=new", path + " diskseq=1 state=left"},
		{"a late add, and its remove", "Ladd/1=new remove/1", ""},
		{"a late add, and its late remove", "Ladd/=new Lremove/ add/=new", path + " node=sda"},
		{"a late add after a late remove", "add/1=new Lremove/1 Ladd/2=new", path + " diskseq=2 state=left node=sda"},
		{"a late add of what is there", "add/1=new Ladd/1=was", path + " diskseq=1 node=sda"},
		{"a late remove of nothing", "Lremove/1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			needRoot(t)
			b := newBoard(t, t.TempDir())
			if _, err := b.d.LockDev(); err != nil {
				t.Fatal(err)
			}
			for word := range strings.FieldsSeq(c.script) {
				step, want, _ := strings.Cut(word, "=")
				step, late := strings.CutPrefix(step, "L")
				action, seq, _ := strings.Cut(step, "/")
				e, err := uevent.FromEnviron([]string{"ACTION=" + action, "DEVPATH=/devices/test/sda", "SUBSYSTEM=block",
					"MAJOR=8", "MINOR=0", "DEVNAME=sda", "DISKSEQ=" + seq})
				if err != nil {
					t.Fatal(err)
				}
				p := &Plan{Event: e, Late: late}
				switch {
				case late:
				case action == uevent.Add:
					p.Work, p.Nodes = Create, []Node{{Path: "sda", Mode: 0o660}}
				case action == uevent.Remove:
					p.Work = Remove
				}
				existed, err := b.d.Apply(p)
				if err != nil || want != "" && existed != (want == "was") {
					t.Errorf("%s: existed %v, error %v", word, existed, err)
				}
			}
			b.d.UnlockDev()
			if c.record == "" {
				b.checkRecord()
			} else {
				b.checkRecord("b8:0 " + c.record)
			}
		})
	}
}
