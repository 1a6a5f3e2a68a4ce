/*
 * monitor N [SUBSYSTEM[/DEVTYPE] | tag=TAG]...: listens by libudev, says "ready", and
 * prints of N events action, subsystem, SEQNUM, whether the device is initialized, node,
 * and the properties N, X and SYNTH_UUID.
 */
#include <libudev.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *property(struct udev_device *d, const char *key)
{
	const char *value = udev_device_get_property_value(d, key);

	return value ? value : "-";
}

int main(int argc, char **argv)
{
	struct udev *udev = udev_new();
	struct udev_monitor *m = udev_monitor_new_from_netlink(udev, "udev");

	if (argc < 2 || !m)
		return 100;
	for (int i = 2; i < argc; i++) {
		char *type = strchr(argv[i], '/');

		if (!strncmp(argv[i], "tag=", 4)) {
			if (udev_monitor_filter_add_match_tag(m, argv[i] + 4) < 0)
				return 101;
			continue;
		}
		if (type)
			*type++ = 0;
		if (udev_monitor_filter_add_match_subsystem_devtype(m, argv[i], type) < 0)
			return 101;
	}
	udev_monitor_set_receive_buffer_size(m, 128 << 20);
	if (udev_monitor_enable_receiving(m) < 0)
		return 102;
	puts("ready");
	fflush(stdout);
	for (int left = atoi(argv[1]); left > 0;) {
		struct pollfd p = { .fd = udev_monitor_get_fd(m), .events = POLLIN };
		struct udev_device *d;

		if (poll(&p, 1, 10000) <= 0)
			return 103;
		d = udev_monitor_receive_device(m);
		if (!d)
			continue;
		printf("%s %s %llu %d %s %s %s %s\n", udev_device_get_action(d), udev_device_get_subsystem(d),
		       udev_device_get_seqnum(d), udev_device_get_is_initialized(d),
		       udev_device_get_devnode(d) ? udev_device_get_devnode(d) : "-",
		       property(d, "N"), property(d, "X"), property(d, "SYNTH_UUID"));
		udev_device_unref(d);
		left--;
	}
	return 0;
}
