package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"devspool/conf"
)

func TestConfsHaveTheRulesTheyPromise(t *testing.T) {
	ids := conf.ParseIDs("root:x:0:0:root:/:/bin/sh\n", groups)
	for name, c := range map[string]struct {
		text  string
		rules int
	}{
		"empty": {emptyConf, 0},
		"fifty": {fiftyConf, 50},
		"large": {largeConf, 90},
	} {
		rules := 0
		for line := range strings.Lines(c.text) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				rules++
			}
		}
		if rules != c.rules {
			t.Errorf("%s: %d rules, want %d", name, rules, c.rules)
		}
		parsed := conf.Parse(name, c.text, ids)
		for _, p := range parsed.Problems {
			t.Errorf("%s: %s", name, p)
		}
	}
}

func TestEndedCPU(t *testing.T) {
	for stat, want := range map[string]time.Duration{
		"": 0,
		"9 (a b) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 15 16": 70 * time.Millisecond,
	} {
		if got := endedCPU(stat); got != want {
			t.Errorf("%q: %v, want %v", stat, got, want)
		}
	}
}

func TestStraceTotal(t *testing.T) {
	for name, text := range map[string]string{
		"with errors":    "% time     seconds  usecs/call     calls    errors syscall\n100.00    0.022815           8      2583         3 total\n",
		"without errors": "100.00    0.022815           8      2583           total\n",
	} {
		if got, err := straceTotal(text); err != nil || got != 2583 {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	if _, err := straceTotal("strace: exec: no such file\n"); err == nil {
		t.Error("took something else for a total")
	}
}

func TestStatusBytes(t *testing.T) {
	const text = "Name:\tmdev\nVmHWM:\t    1640 kB\nVmRSS:\t    1024 kB\n"
	if got := statusBytes(text, "VmRSS"); got != 1<<20 {
		t.Errorf("VmRSS %v", got)
	}
	if got := statusBytes(text, "RssAnon"); got != 0 {
		t.Errorf("RssAnon %v, which is not there", got)
	}
}

func TestReportJudges(t *testing.T) {
	var out bytes.Buffer
	r := newReport(&out)
	r.section("Part", "measured %d times", 3)
	r.ratio("met", figures{ours: 1, rival: 2}, count, 0.5)
	r.ratio("missed", figures{ours: 1.1, rival: 2}, milliseconds, 0.5)
	r.ratio("no rival", figures{ours: 1}, count, 0.5)
	r.ratio("no target", figures{ours: 9, rival: 1}, count, 0)
	r.limit("small enough", figures{ours: 5}, count, 5)
	r.limit("nothing", figures{}, count, 5)
	r.summary()
	for _, line := range []string{
		"2 targets met, 1 missed, 2 not measured\n",
		"MISSED: Part: missed\n", "NOT MEASURED: Part: no rival\n", "NOT MEASURED: Part: nothing\n",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("the report does not say %q:\n%s", line, &out)
		}
	}
}

func TestCountSetsThousandsApart(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 2_300_000: "2,300,000"} {
		if got := count(n); got != want {
			t.Errorf("count(%v) is %s, want %s", n, got, want)
		}
	}
}
