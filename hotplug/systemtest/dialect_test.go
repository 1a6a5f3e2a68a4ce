package systemtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"devspool/hotplug/kerneltest"
)

// TestDialect runs what a config of mdevd's asks for: on which actions, before or after
// the work on nodes, by execlineb or as plain words.
func TestDialect(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	kerneltest.Need(t, "execlineb")
	b := newBoard(t, `-sda 0:0 660 >disk/%0 +sh script add
-sda 0:0 660 >disk/%0 -sh script remove
-sda 0:0 660 >disk/%0 &sh script any
-sda 0:0 660 >disk/%0 +importas -i MDEV MDEV foreground { sh script "of $MDEV" } sh script 'not\ parted' # a comment
-sda 0:0 660 >disk/%0 -foreground { sh script block } sh script after
sda 0:0 660 >disk/%0 +sh script $MDEV '$MDEV' $(x) a;b | c
`)
	b.write(b.dev+"/script", `node=absent; test -b sda && test -b "$MDEV" && node=there
for word; do words="$words <$word>"; done
echo "$ACTION$words $node" >>../seen
`)
	seen := func(how string, want ...string) {
		t.Helper()
		if got := b.read(b.dir + "/seen"); got != strings.Join(want, "\n")+"\n" {
			t.Errorf("%s:\n%swant\n%s", how, got, strings.Join(want, "\n"))
		}
		os.Remove(b.dir + "/seen")
	}
	const path = "PATH=/usr/lib/execline/bin:/sbin:/bin:/usr/sbin:/usr/bin" // where Debian has importas and foreground
	tell := func(e kerneltest.Event) {
		t.Helper()
		cmd := b.helper(e)
		cmd.Env = append(cmd.Env, path)
		b.must(b.finish(cmd))
	}
	tell(b.plug(disk(0)))
	seen("add", "add <add> there", "add <any> there", "add <of disk/sda> there", "add <'not parted'> there",
		"add <$MDEV> <'$MDEV'> <$(x)> <a;b> <|> <c> there")
	tell(disk(0).Event("change"))
	seen("change", "change <any> there")
	tell(b.unplug(disk(0)))
	seen("remove", "remove <remove> there", "remove <any> there", "remove <block> there", "remove <after> there")
	if _, err := os.Lstat(b.dev + "/disk/sda"); !os.IsNotExist(err) {
		t.Errorf("the node is left: %v", err)
	}
}

// TestDialectWithoutExecline has no execlineb to find. Plain words run all the same,
// all else is an error that says where it stands and what to do.
func TestDialectWithoutExecline(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "-sda 0:0 660 &foreground { touch block } touch after\n-sda 0:0 660 =disk/%0 +touch ../plain ../x(y)\n")
	bin := filepath.Join(b.dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(kerneltest.Need(t, "touch"), bin+"/touch"); err != nil {
		t.Fatal(err)
	}
	cmd := b.helper(b.plug(disk(0)))
	cmd.Env = append(cmd.Env, "PATH="+bin)
	r := b.finish(cmd)
	for _, want := range []string{b.conf + ":1: foreground { touch block } touch after: ", "execlineb", "install execline, or begin the command with @, $ or *"} {
		if r.code != exitEvent || strings.Count(r.stderr, want) != 1 {
			t.Errorf("exit code %d, want %d; stderr has no, or several, %q:\n%s", r.code, exitEvent, want, r.stderr)
		}
	}
	for _, name := range []string{"plain", "x(y)"} {
		if _, err := os.Stat(filepath.Join(b.dir, name)); err != nil {
			t.Errorf("plain words did not run: %v", err)
		}
	}
	b.has("disk dir 0755 0:0", "disk/sda block 0660 0:0 8:0", "sda block 0660 0:0 8:0")
}
