package spool

import (
	"fmt"
	"os"
	"testing"

	"devspool/hotplug/kerneltest"
)

// Beside other programs it is measured by hotplug/bench.
func BenchmarkPublish(b *testing.B) {
	kerneltest.NeedRoot(b)
	for _, clients := range []int{0, 1, 10} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			dir := b.TempDir()
			kerneltest.MountTmpfs(b, dir)
			s, err := Open(Options{Private: dir + "/private", Events: dir + "/events", Resident: true, Window: 1 << 20})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			for i := range clients {
				queue := fmt.Sprintf("%s/events/q%d-%d", dir, i, os.Getpid())
				if err := os.MkdirAll(queue+"/.nolinks", 0o755); err != nil {
					b.Fatal(err)
				}
			}
			e := numbered(1)
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Publish(e, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
