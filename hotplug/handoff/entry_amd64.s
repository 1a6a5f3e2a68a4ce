#include "textflag.h"

// Where the process begins: keep the stack, call begin, go on to the runtime.
TEXT ·Entry(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ	SP, ·stack(SB)
	XORPS	X15, X15 // compiled code takes it for zero
	MOVQ	·beginning(SB), DX
	MOVQ	(DX), AX
	CALL	AX
	JMP	_rt0_amd64_linux(SB)
