package nodes

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// charLink makes the plan of a device with the link that its numbers give it.
func charLink(name string) *Plan {
	return makes("c1:3", name, name+" 0666 0:0", "char/1:3 ~> "+name)
}

// right returns how many links are known to be right.
func (b *board) right() (n int) {
	for i := range b.d.tree.kept {
		n += len(b.d.tree.kept[i].targets)
	}
	return n
}

// TestRightLinks has links be removed by somebody else between two events of a device, at any
// moment: the second one makes them again, whatever was found right before.
func TestRightLinks(t *testing.T) {
	eachWay(t, func(b *board) {
		random := rand.New(rand.NewPCG(1, 1))
		const link, text, rounds = "char/1:3", "../null", 300
		b.apply(charLink("null"))
		trusted := 0
		for range rounds {
			for range random.IntN(3) { // the clock of files goes in steps of up to 10 ms
				time.Sleep(time.Duration(random.IntN(6)) * time.Millisecond)
				b.apply(charLink("null"))
			}
			trusted += b.right()
			switch random.IntN(4) {
			case 0:
				b.must(os.Remove(b.path(link)))
			case 1:
				b.must(os.RemoveAll(b.path("char")))
			case 2: // a directory that looks the same
				b.must(os.Rename(b.path("char"), b.path("was")))
				b.mkdir("char")
				b.must(os.RemoveAll(b.path("was")))
			}
			b.apply(charLink("null"))
			if is, err := os.Readlink(b.path(link)); err != nil || is != text {
				b.Fatalf("the link has the text %q, error %v", is, err)
			}
		}
		if !b.d.tree.walk && (trusted == 0 || trusted == rounds) {
			b.Errorf("of %d times, the link was known to be right %d times", rounds, trusted)
		}
	})
}

// TestRightLinksOfOthers has a link that was found right get another target within the same
// hold of the lock.
func TestRightLinksOfOthers(t *testing.T) {
	needRoot(t)
	b := newBoard(t, t.TempDir())
	b.apply(charLink("null"))
	for deadline := time.Now().Add(20 * time.Second); b.right() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the link is never known to be right")
		}
		time.Sleep(time.Millisecond)
		b.apply(charLink("null"))
	}
	if _, err := b.d.LockDev(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"null", "other", "null"} {
		if _, err := b.d.Apply(charLink(name)); err != nil {
			t.Error(err)
		}
		if is, err := os.Readlink(b.path("char/1:3")); is != "../"+name {
			t.Errorf("the link has the text %q, error %v", is, err)
		}
	}
	b.must(b.d.UnlockDev())
}
