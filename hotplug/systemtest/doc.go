// Package systemtest holds the tests of the whole program: the binary as it is
// released, run on real uevents, on injected ones, and beside BusyBox mdev, each
// test in namespaces of its own.
//
// It has no code that is not a test. Nothing here looks into the program: what a
// test knows is the command line, the exit codes, the log and /dev.
//
// The environment steers it:
//
//	DEVSPOOL_BINARY    tests that program instead of building one
//	DEVSPOOL_TEST_ALL  1 makes a failure of every test that cannot run here
//	DEVSPOOL_CASES     how many random cases the comparison with BusyBox makes
//	DEVSPOOL_SEED      the seed of all random cases
package systemtest
