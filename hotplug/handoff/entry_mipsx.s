//go:build mips || mipsle

#include "textflag.h"

// Where the process begins: keep the stack, call begin, go on to the runtime.
TEXT ·Entry(SB), NOSPLIT|NOFRAME, $0-0
	MOVW	R29, ·stack(SB)
	MOVW	·beginning(SB), R22
	MOVW	(R22), R1
	CALL	(R1)
#ifdef GOARCH_mips
	JMP	_rt0_mips_linux(SB)
#else
	JMP	_rt0_mipsle_linux(SB)
#endif
