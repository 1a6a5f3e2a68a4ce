/* The bare calls of a fan-out: what publishing to directories costs at the least.
 *
 *	fanout links|copies EVENTS MICROSECONDS DIR...
 *
 * writes EVENTS files, one each so many microseconds, each linked (or written anew)
 * into every DIR, and prints the CPU nanoseconds of one event.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long long clock_of(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void put(int fd, const char *text, size_t size)
{
	if (fd < 0 || write(fd, text, size) != (ssize_t)size)
		exit(1);
}

int main(int argc, char **argv)
{
	char text[230], name[32];
	int copies = !strcmp(argv[1], "copies"), dirs = argc - 4, i;
	long events = atol(argv[2]), n;
	long long pause = atol(argv[3]) * 1000LL, next, start;
	int *dir = calloc(dirs, sizeof *dir);

	memset(text, 'x', sizeof text);
	for (i = 0; i < dirs; i++)
		if ((dir[i] = open(argv[4 + i], O_RDONLY | O_DIRECTORY)) < 0)
			return 1;
	start = clock_of(CLOCK_PROCESS_CPUTIME_ID);
	next = clock_of(CLOCK_MONOTONIC);
	for (n = 1; n <= events; n++) {
		snprintf(name, sizeof name, "%020ld", n);
		if (copies) {
			for (i = 0; i < dirs; i++) {
				int fd = openat(dir[i], name, O_CREAT | O_EXCL | O_WRONLY, 0444);
				put(fd, text, sizeof text);
				close(fd);
			}
		} else {
			int fd = openat(dir[0], ".", O_TMPFILE | O_WRONLY, 0444);
			put(fd, text, sizeof text);
			for (i = 0; i < dirs; i++)
				if (linkat(fd, "", dir[i], name, AT_EMPTY_PATH))
					return 1;
			close(fd);
		}
		if (pause) {
			struct timespec t;
			next += pause;
			t.tv_sec = next / 1000000000LL;
			t.tv_nsec = next % 1000000000LL;
			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		}
	}
	printf("%lld\n", (clock_of(CLOCK_PROCESS_CPUTIME_ID) - start) / events);
	return 0;
}
