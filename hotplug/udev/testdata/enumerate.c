/*
 * enumerate [TAG]: prints the devices that libudev calls initialized, of those with the tag
 * where one is given, each with its links, tags, USEC_INITIALIZED and property X.
 */
#include <libudev.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	struct udev *udev = udev_new();
	struct udev_enumerate *e = udev_enumerate_new(udev);
	struct udev_list_entry *entry, *item;

	udev_enumerate_add_match_is_initialized(e);
	if (argc > 1)
		udev_enumerate_add_match_tag(e, argv[1]);
	if (udev_enumerate_scan_devices(e) < 0)
		return 1;
	udev_list_entry_foreach(entry, udev_enumerate_get_list_entry(e)) {
		struct udev_device *d = udev_device_new_from_syspath(udev, udev_list_entry_get_name(entry));
		const char *x = udev_device_get_property_value(d, "X");
		const char *usec = udev_device_get_property_value(d, "USEC_INITIALIZED");

		printf("%s links", udev_device_get_syspath(d));
		udev_list_entry_foreach(item, udev_device_get_devlinks_list_entry(d))
			printf(" %s", udev_list_entry_get_name(item));
		printf(" tags");
		udev_list_entry_foreach(item, udev_device_get_tags_list_entry(d))
			printf(" %s", udev_list_entry_get_name(item));
		printf(" since %s X %s\n", usec ? usec : "-", x ? x : "-");
		udev_device_unref(d);
	}
	return 0;
}
