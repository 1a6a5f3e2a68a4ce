#!/bin/bash
# devspool in udev's place: add_dracutmodules+=" devspool ". It comes after udev-rules, whose two
# programs it replaces. Rules of udev are not read, so what dracut does by them (LVM, crypt, network)
# is not for this; a root on a disk or partition is.

check() {
	require_binaries devspool || return 1
	return 255 # where it is asked for
}

depends() {
	echo udev-rules
}

install() {
	local program udevadm
	program=$(command -v devspool)
	inst "$program"
	inst /usr/lib/mdev.conf.d/10-modules.conf
	udevadm=$(find "$initdir" -name udevadm | head -n 1)
	rm -f "$udevadm" "$initdir$systemdutildir/systemd-udevd"
	ln -s "$program" "$udevadm"
	ln -s "$program" "$initdir$systemdutildir/systemd-udevd"
}
