/*
 * monitor LIBRARY N: listens by a libudev, and prints action, subsystem, SEQNUM
 * and N of N events. Exits with 77 where the library cannot be used.
 */
#include <dlfcn.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

static void *library;

static void *need(const char *name)
{
	void *f = dlsym(library, name);

	if (!f) {
		printf("%s\n", dlerror());
		exit(77);
	}
	return f;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 100;
	library = dlopen(argv[1], RTLD_NOW);
	if (!library) {
		printf("%s\n", dlerror());
		return 77;
	}
	void *(*new)(void) = need("udev_new");
	void *(*monitor_new)(void *, const char *) = need("udev_monitor_new_from_netlink");
	int (*enable)(void *) = need("udev_monitor_enable_receiving");
	int (*get_fd)(void *) = need("udev_monitor_get_fd");
	void *(*receive)(void *) = need("udev_monitor_receive_device");
	void (*unref)(void *) = need("udev_device_unref");
	const char *(*action)(void *) = need("udev_device_get_action");
	const char *(*subsystem)(void *) = need("udev_device_get_subsystem");
	const char *(*property)(void *, const char *) = need("udev_device_get_property_value");
	unsigned long long (*seqnum)(void *) = need("udev_device_get_seqnum");

	void *monitor = monitor_new(new(), "udev");
	if (!monitor || enable(monitor) < 0) {
		printf("no monitor\n");
		return 77;
	}
	for (int left = atoi(argv[2]); left > 0;) {
		struct pollfd p = { .fd = get_fd(monitor), .events = POLLIN };

		if (poll(&p, 1, -1) < 0)
			return 1;
		void *device = receive(monitor);
		if (!device)
			continue;
		const char *n = property(device, "N");
		printf("%s %s %llu %s\n", action(device), subsystem(device), seqnum(device), n ? n : "-");
		unref(device);
		left--;
	}
	return 0;
}
