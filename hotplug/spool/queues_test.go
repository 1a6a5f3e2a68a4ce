package spool

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/procfs"
)

func TestNamedBy(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	us, dead, init := strconv.Itoa(os.Getpid()), strconv.Itoa(cmd.Process.Pid), unix.Stat_t{}
	if err := unix.Stat("/proc/1", &init); err != nil {
		kerneltest.Cannot(t, "/proc/1: %v", err)
	}
	type test struct {
		name string
		uid  int
		want int
	}
	tests := []test{
		{"x-" + us, os.Getuid(), os.Getpid()},
		{"x-y-" + us, os.Getuid(), os.Getpid()},
		{"x-" + us + "-0", os.Getuid(), os.Getpid()},
		{"x-" + us + "-1", os.Getuid(), os.Getpid()},
		{"x-" + us, os.Getuid() + 1, 0},
		{"x-" + dead, os.Getuid(), 0},
		{"x-1", int(init.Uid), 1},
		{"libudev-" + dead + "-1", int(init.Uid), 0}, // process 1 lives, and is not meant
		{"x", os.Getuid(), 0},
		{us, os.Getuid(), 0},
		{"x-", os.Getuid(), 0},
		{"x-0", os.Getuid(), 0},
		{"x--1", os.Getuid() + 1, 0},
		{"x-" + us + "x", os.Getuid(), 0},
	}
	if os.Getpid() >= minPID {
		tests = append(tests, test{"card-1-" + us, os.Getuid(), os.Getpid()})
	}
	for _, test := range tests {
		if got := OwnerNamed(test.name, uint32(test.uid)).Pid; got != test.want {
			t.Errorf("%s of user %d: process %d, want %d", test.name, test.uid, got, test.want)
		}
	}
}

func TestFlockHolder(t *testing.T) {
	t.Parallel()
	const locks = "1: POSIX  ADVISORY  WRITE 11 00:1a:77 0 EOF\n" +
		"2: FLOCK  ADVISORY  WRITE 22 00:1b:77 0 EOF\n" +
		"3: FLOCK  ADVISORY  WRITE 33 00:1a:177 0 EOF\n" +
		"4: FLOCK  ADVISORY  WRITE -1 00:1a:78 0 EOF\n" +
		"4: FLOCK\n" +
		"5: FLOCK  ADVISORY  WRITE 55 00:1a:77 0 EOF\n" +
		"5: -> FLOCK  ADVISORY  WRITE 66 00:1a:79 0 EOF\n"
	for ino, want := range map[uint64]int{77: 55, 177: 33, 78: 0, 79: 0, 7: 0} {
		if got := procfs.FlockHolder(locks, unix.Mkdev(0, 0x1a), ino); got != want {
			t.Errorf("inode %d: process %d, want %d", ino, got, want)
		}
	}
}

func TestSurvey(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	r, err := Subscribe(t.Context(), Subscription{Root: root, Name: "a", Sticky: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, dir := range []string{".b-1", "c-2000000000"} {
		if err := os.Mkdir(root+"/"+dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"note", "c-2000000000/00000000000000000001", "c-2000000000/00000000000000000003", "c-2000000000/x"} {
		if err := os.WriteFile(root+"/"+file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("c-2000000000", root+"/d-1"); err != nil {
		t.Fatal(err)
	}
	got, err := Queues(root)
	want := []Queue{
		{Name: "a-" + strconv.Itoa(os.Getpid()), UID: os.Getuid(), PID: os.Getpid(), Sticky: true},
		{Name: "c-2000000000", UID: os.Getuid(), Unread: 2},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, error %v, want %+v", got, err, want)
	}
}
