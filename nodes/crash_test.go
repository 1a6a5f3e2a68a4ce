package nodes

import (
	"bufio"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// churnPlans are what churnForever applies in turn, by device.
func churnPlans() []*Plan {
	return []*Plan{
		makes("b11:0", "sr0", "sr0 0660 0:24", "disk/by-id/x -> sr0", "cdrom -> sr0"),
		makes("c116:33", "snd/timer", "snd/timer 0660 7:6"),
		makes("b11:0", "sr0", "media/cd/sr0 0660 0:0", "sr0 -> media/cd/sr0", "cdrom -> media/cd/sr0"),
		clears("c116:33", "snd/timer"),
		makes("b11:0", "sr0", "cdrom 0600 7:6", "media/x -> cdrom"),
		clears("b11:0", "sr0"),
		makes("b11:0", "sr0", "sr0 0660 0:24", "disk/by-uuid/x ~> sr0", "disk/by-label/y ~5> sr0", "cdrom =-7> sr0"),
		makes("b11:1", "sr1", "sr1 0660 0:24", "disk/by-uuid/x ~1> sr1", "disk/by-label/y ~> sr1", "cdrom => sr1"),
		makes("b11:0", "sr0", "sr0 0660 0:24", "disk/by-uuid/x ~2> sr0"),
		makes("b11:1", "sr1", "cdrom 0660 0:24", "disk/by-uuid/x ~1> cdrom"),
		makes("b11:0", "sr0", "sr0 0660 0:24", "disk/by-label/y ~> sr0", "cdrom =3> sr0"),
		clears("b11:1", "sr1"),
		clears("b11:0", "sr0"),
	}
}

// churnForever applies and clears until it is killed.
func churnForever(args []string) error {
	d, err := Open(args[0])
	if err != nil {
		return err
	}
	current := map[string]*Plan{}
	os.Stdout.WriteString("begin\n")
	for {
		for _, p := range churnPlans() {
			if _, err := d.LockDev(); err != nil {
				return err
			}
			current[p.Event.Devpath] = p
			for todo := []*Plan{p}; len(todo) > 0; todo = todo[1:] {
				if _, err := d.Apply(todo[0]); err != nil {
					return err
				}
				for _, heir := range d.Released() {
					if p := current[heir.Devpath]; p != nil && p.Work == Create {
						todo = append(todo, p)
					}
				}
			}
			d.UnlockDev()
		}
	}
}

// TestCrash kills a process at random moments of its work. Whoever comes next
// gets the lock, and brings /dev where it would be without the crash: nothing is
// left that nobody knows of.
func TestCrash(t *testing.T) {
	eachWay(t, func(b *board) {
		for range 40 {
			killWhileChurning(b)
			applyAll(b, clears("b11:1", "sr1"), nil)
			for _, p := range churnPlans()[:2] {
				b.apply(p)
			}
			b.check("cdrom -> sr0", "disk/ 0755 0:0", "disk/by-id/ 0755 0:0", "disk/by-id/x -> ../../sr0",
				"snd/ 0755 0:0", "snd/timer c116:33 0660 7:6", "sr0 b11:0 0660 0:24")

			killWhileChurning(b)
			two := churnPlans()[6:8]
			both := map[string]*Plan{two[0].Event.Devpath: two[0], two[1].Event.Devpath: two[1]}
			for _, p := range []*Plan{two[0], two[1], clears("c116:33", "snd/timer")} {
				applyAll(b, p, both)
			}
			b.check("cdrom -> sr1", "disk/ 0755 0:0", "disk/by-label/ 0755 0:0", "disk/by-label/y -> ../../sr0", "disk/by-uuid/ 0755 0:0",
				"disk/by-uuid/x -> ../../sr1", "sr0 b11:0 0660 0:24", "sr1 b11:1 0660 0:24")
			b.d.Conflicts()

			killWhileChurning(b)
			b.apply(clears("b11:1", "sr1"))
			b.apply(clears("b11:0", "sr0"))
			b.apply(clears("c116:33", "snd/timer"))
			b.check()
			b.checkRecord()
			entries, err := os.ReadDir(b.path(Private))
			b.must(err)
			for _, entry := range entries {
				if !slices.Contains([]string{"lock", "record", "record-new", "staged"}, entry.Name()) {
					b.Errorf("the private directory holds %s", entry.Name())
				}
			}
			if b.Failed() {
				return
			}
		}
	})
}

func killWhileChurning(b *board) {
	b.Helper()
	cmd := child(b.T, "churn", b.dir)
	stdout, err := cmd.StdoutPipe()
	b.must(err)
	b.must(cmd.Start())
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		b.Error(err)
	}
	time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond) // the moment is what is tried
	b.must(cmd.Process.Kill())
	cmd.Wait()
}
