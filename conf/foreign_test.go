package conf

import "testing"

// TestIsUdevs tells udev's rules from lines that BusyBox reads as rules of its own.
func TestIsUdevs(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		`KERNEL=="sd*", SYMLINK+="disk"`:               true,
		`ATTRS{idVendor}=="04f9", MODE="0660"`:         true,
		`SUBSYSTEM == "block", GROUP="disk"`:           true,
		`ENV{ID_FS_TYPE}!="", IMPORT{program}="x $id"`: true,
		`sds	daemon:disk a=`:                           false,
		`sds daemon:disk a="x"`:                        false,
		`sda 0:0 660 @echo A="x"`:                      false,
		`SUBSYSTEM="x";sda 0:0 660`:                    false,
		`="x" 0:0 660`:                                 false,
	} {
		if got := isUdevs(line); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}
