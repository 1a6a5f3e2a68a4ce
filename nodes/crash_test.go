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
	}
}

// churnForever applies and clears until it is killed.
func churnForever(args []string) error {
	d, err := Open(args[0])
	if err != nil {
		return err
	}
	os.Stdout.WriteString("begin\n")
	for {
		for _, p := range churnPlans() {
			if _, err := d.LockDev(); err != nil {
				return err
			}
			if _, err := d.Apply(p); err != nil {
				return err
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
			for _, p := range churnPlans()[:2] {
				b.apply(p)
			}
			b.check("cdrom -> sr0", "disk/ 0755 0:0", "disk/by-id/ 0755 0:0", "disk/by-id/x -> ../../sr0",
				"snd/ 0755 0:0", "snd/timer c116:33 0660 7:6", "sr0 b11:0 0660 0:24")

			killWhileChurning(b)
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
