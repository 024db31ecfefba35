// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func vforkExec(path *byte, argv, envp **byte) (pid int64)
//
// The child runs on the parent's stack until its execve, while the parent waits: so it writes nothing there and
// calls nothing.
TEXT ·vforkExec(SB), NOSPLIT|NOFRAME, $0-32
	MOVD path+0(FP), R9
	MOVD argv+8(FP), R10
	MOVD envp+16(FP), R11
	MOVD $0x4111, R0 // CLONE_VM | CLONE_VFORK | SIGCHLD
	MOVD ZR, R1
	MOVD ZR, R2
	MOVD ZR, R3
	MOVD ZR, R4
	MOVD $220, R8    // clone
	SVC
	CBZ  R0, child
	MOVD R0, pid+24(FP)
	RET

child:
	MOVD R9, R0
	MOVD R10, R1
	MOVD R11, R2
	MOVD $221, R8    // execve
	SVC
	MOVD $127, R0
	MOVD $93, R8     // exit
	SVC
	BRK
