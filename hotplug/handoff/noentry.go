//go:build !(amd64 || arm64 || arm || 386 || riscv64 || mips || mipsle)

package handoff

// LinkerFlag is empty where there is no Entry: the process begins as every other.
const LinkerFlag = ""
