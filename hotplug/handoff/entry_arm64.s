#include "textflag.h"

// Where the process begins: keep the stack, call begin, go on to the runtime.
TEXT ·Entry(SB), NOSPLIT|NOFRAME, $0-0
	MOVD	RSP, R0
	MOVD	R0, ·stack(SB)
	MOVD	·beginning(SB), R26
	MOVD	(R26), R1
	CALL	(R1)
	JMP	_rt0_arm64_linux(SB)
