//go:build amd64 || arm64 || arm || 386 || riscv64 || mips || mipsle

package handoff

// LinkerFlag is what the linker is to be told on this architecture.
const LinkerFlag = "-E=devspool/hotplug/handoff.Entry"

// Entry is where the process begins. It goes on to the entry of the Go runtime.
func Entry()
