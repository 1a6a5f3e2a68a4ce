#include "textflag.h"

// Where the process begins: keep the stack, call begin, go on to the runtime.
TEXT ·Entry(SB), NOSPLIT|NOFRAME, $0-0
	MOV	X2, ·stack(SB)
	MOV	·beginning(SB), X26
	MOV	(X26), X5
	JALR	X1, X5
	JMP	_rt0_riscv64_linux(SB)
