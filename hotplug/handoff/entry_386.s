#include "textflag.h"

// Where the process begins: keep the stack, call begin, go on to the runtime.
TEXT ·Entry(SB), NOSPLIT|NOFRAME, $0-0
	MOVL	SP, ·stack(SB)
	MOVL	·beginning(SB), DX
	MOVL	(DX), AX
	CALL	AX
	JMP	_rt0_386_linux(SB)
