/* Answers what the C library makes of extended regular expressions. Reads lines
 * "PATTERN TEXT" in hexadecimal, each with a leading x; writes for each "bad",
 * "no", or the offsets of the match and of its groups. */
#include <regex.h>
#include <stdio.h>
#include <string.h>

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
	int bad = -1;

	while (scanf("%4095s %4095s", pattern, text) == 2) {
		if (bad < 0 || strcmp(pattern, last)) {
			if (bad == 0)
				regfree(&re);
			strcpy(last, pattern);
			bad = regcomp(&re, unhex(pattern), REG_EXTENDED) != 0;
		}
		if (bad) {
			puts("bad");
		} else if (regexec(&re, unhex(text), 10, m, 0)) {
			puts("no");
		} else {
			for (size_t i = 0; i <= re.re_nsub && i < 10; i++)
				printf("%d %d ", (int)m[i].rm_so, (int)m[i].rm_eo);
			putchar('\n');
		}
	}
	return 0;
}
