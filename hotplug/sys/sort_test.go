package sys

import (
	"math/rand"
	"slices"
	"strconv"
	"testing"
)

func TestSort(t *testing.T) {
	for length := range 200 {
		names := make([]string, length)
		for i := range names {
			names[i] = strconv.Itoa(rand.Intn(1 + length))
		}
		want := slices.Sorted(slices.Values(names))
		for range 2 { // sorted ones too
			if Sort(names); !slices.Equal(names, want) {
				t.Fatalf("%q, want %q", names, want)
			}
		}
	}
}
