#include "textflag.h"

// Where the process begins: keep the stack, call begin, go on to the runtime.
TEXT ·Entry(SB), NOSPLIT|NOFRAME, $0-0
	MOVW	R13, ·stack(SB)
	MOVW	·beginning(SB), R7
	MOVW	(R7), R1
	CALL	(R1)
	JMP	_rt0_arm_linux(SB)
