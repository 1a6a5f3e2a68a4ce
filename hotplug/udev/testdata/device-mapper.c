/*
 * Loaded into dmsetup (LD_PRELOAD), it makes a kernel without device-mapper look as if it
 * had one, as far as cookies go: /dev/mapper/control opens, and says its version.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

static int control = -1;

static int opened(const char *name, const char *path, int flags, int mode)
{
	int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, name);

	if (strcmp(path, "/dev/mapper/control"))
		return next(path, flags, mode);
	return control = next("/dev/null", flags, mode);
}

int open(const char *path, int flags, ...)
{
	va_list more;
	va_start(more, flags);
	int mode = va_arg(more, int);
	va_end(more);
	return opened("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	va_list more;
	va_start(more, flags);
	int mode = va_arg(more, int);
	va_end(more);
	return opened("open64", path, flags, mode);
}

int ioctl(int fd, unsigned long request, ...)
{
	int (*next)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
	va_list more;
	va_start(more, request);
	void *argument = va_arg(more, void *);
	va_end(more);
	if (fd < 0 || fd != control)
		return next(fd, request, argument);
	uint32_t version[3] = { 4, 48, 0 }; /* the head of struct dm_ioctl */
	memcpy(argument, version, sizeof(version));
	return 0;
}
