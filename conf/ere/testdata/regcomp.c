/* Answers what the C library makes of extended regular expressions. Reads lines
 * "PATTERN TEXT" in hexadecimal, each with a leading x; writes for each "bad",
 * "no", "slow" after a fifth of a second, or the offsets of the match and of its
 * groups. */
#include <regex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

static sigjmp_buf give_up;

static void on_alarm(int sig)
{
	siglongjmp(give_up, sig);
}

static void alarm_in(long us)
{
	struct itimerval t = { .it_value = { .tv_usec = us } };

	setitimer(ITIMER_REAL, &t, NULL);
}

static char *unhex(char *s)
{
	char *out = s, *p = s + 1;
	unsigned c;

	while (sscanf(p, "%2x", &c) == 1) {
		*out++ = c;
		p += 2;
	}
	*out = 0;
	return s;
}

int main(void)
{
	static char pattern[4096], text[4096], last[4096];
	regmatch_t m[10];
	regex_t re;
	volatile int bad = -1;
	int no;

	signal(SIGALRM, on_alarm);
	while (scanf("%4095s %4095s", pattern, text) == 2) {
		if (bad < 0 || strcmp(pattern, last)) {
			strcpy(last, pattern);
			bad = regcomp(&re, unhex(pattern), REG_EXTENDED) != 0;
		}
		if (bad) {
			puts("bad");
			continue;
		}
		if (sigsetjmp(give_up, 1)) {
			puts("slow");
			continue;
		}
		alarm_in(200000);
		no = regexec(&re, unhex(text), 10, m, 0);
		alarm_in(0);
		if (no) {
			puts("no");
		} else {
			for (size_t i = 0; i <= re.re_nsub && i < 10; i++)
				printf("%d %d ", (int)m[i].rm_so, (int)m[i].rm_eo);
			putchar('\n');
		}
	}
	return 0;
}
