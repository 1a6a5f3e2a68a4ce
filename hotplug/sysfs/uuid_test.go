package sysfs

import "testing"

func TestTakesUUID(t *testing.T) {
	t.Parallel()
	for release, want := range map[string]bool{
		"3.18.140": false, "4.4.302+": false, "4.9": false, "4.12.14-lp150": false, "4.13.0": true, "4.13-rc1": true,
		"4.19.0-27-amd64": true, "5.4": true, "6.1.0-56-amd64": true, "10.0": true, "": true, "next": true,
	} {
		if takesUUID(release) != want {
			t.Errorf("%q: %v", release, !want)
		}
	}
}
