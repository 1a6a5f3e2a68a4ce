// The least that a loop in C needs which makes the same calls as devspool's: it
// receives a batch of events, asks /sys about each but the adds that the kernel sent
// by itself, notes what it makes, makes a node or, if it is there, removes it. It has
// no rules, looks at no answer, and lets busybox do its coldplug.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

enum { batch = 32, room = 8192 };

static char text[batch][room], senders[batch][32];
static int record, devices;

static void handle(char *p, char *end, int injected)
{
	int add = !strncmp(p, "add@", 4), removed = !strncmp(p, "remove@", 7);
	int major = -1, minor = -1;
	char *name = 0, number[32], link[4096], line[100] = "";
	struct stat st;

	for (p += strlen(p) + 1; p < end; p += strlen(p) + 1) {
		if (!strncmp(p, "DEVNAME=", 8))
			name = p + 8;
		else if (!strncmp(p, "MAJOR=", 6))
			major = atoi(p + 6);
		else if (!strncmp(p, "MINOR=", 6))
			minor = atoi(p + 6);
	}
	if (!name || major < 0)
		return;
	if (removed || injected) {
		snprintf(number, sizeof number, "%d:%d", major, minor);
		if (readlinkat(devices, number, link, sizeof link) < 0)
			link[0] = 0;
	}
	if (removed) {
		if (!fstatat(AT_FDCWD, name, &st, AT_SYMLINK_NOFOLLOW))
			unlink(name);
	} else if (add) {
		if (write(record, line, sizeof line) < 0)
			_exit(1);
		mknod(name, S_IFCHR | 0660, makedev(major, minor));
	}
}

int main(void)
{
	struct sockaddr_nl group = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	struct mmsghdr messages[batch];
	struct iovec vectors[batch];
	int buffer = 128 << 20, yes = 1;
	int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT);

	umask(0);
	if (bind(s, (void *)&group, sizeof group) || chdir("/dev"))
		return 1;
	setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
	setsockopt(s, SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes);
	if (!fork()) {
		execlp("busybox", "mdev", "-s", (char *)0);
		_exit(1);
	}
	wait(0);
	record = open(".record", O_CREAT | O_WRONLY | O_APPEND, 0600);
	unlink(".record");
	for (;;) {
		memset(messages, 0, sizeof messages);
		for (int i = 0; i < batch; i++) {
			vectors[i] = (struct iovec){ text[i], room - 1 };
			messages[i].msg_hdr.msg_iov = &vectors[i];
			messages[i].msg_hdr.msg_iovlen = 1;
			messages[i].msg_hdr.msg_control = senders[i];
			messages[i].msg_hdr.msg_controllen = sizeof senders[i];
		}
		int n = recvmmsg(s, messages, batch, MSG_WAITFORONE, 0);
		if (devices > 0)
			close(devices); // another sysfs may be mounted over it
		devices = open("/sys/dev/char", O_PATH);
		for (int i = 0; i < n; i++) {
			char *end = text[i] + messages[i].msg_len;
			struct cmsghdr *sender = CMSG_FIRSTHDR(&messages[i].msg_hdr);
			*end = 0;
			handle(text[i], end, !sender || ((struct ucred *)CMSG_DATA(sender))->pid);
		}
	}
}
