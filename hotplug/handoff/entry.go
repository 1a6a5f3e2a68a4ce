//go:build amd64 || arm64 || arm || 386 || riscv64 || mips || mipsle

package handoff

// Entry is where the process begins, if the linker is told so (the Makefile does, for
// the architectures above). It goes on to the entry of the Go runtime.
func Entry()
