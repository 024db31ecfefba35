/* SPDX-License-Identifier: Apache-2.0 */
/* A program whose functions and static probe the tests watch. The probe is written as sys/sdt.h does it, in the form of
 * .note.stapsdt version 3, with a semaphore. */
#include <stdlib.h>
#include <string.h>

struct point {
	int x, y;
};

unsigned short probe_semaphore __attribute__((section(".probes"), used));

__attribute__((noipa)) long sum(int n, const char *text, long m)
{
	return n + m + (long)strlen(text);
}

__attribute__((noipa)) void hit(int n, struct point *p)
{
	volatile int local = n + 1;

	if (!probe_semaphore) /* nobody looks */
		return;
	__asm__ volatile("990: nop\n"
			 ".pushsection .note.stapsdt,\"\",\"note\"\n"
			 ".balign 4\n"
			 ".4byte 992f-991f, 994f-993f, 3\n"
			 "991: .asciz \"stapsdt\"\n"
			 "992: .balign 4\n"
			 "993: .8byte 990b\n"
			 ".8byte _.stapsdt.base\n"
			 ".8byte probe_semaphore\n"
			 ".asciz \"vigie\"\n"
			 ".asciz \"hit\"\n"
			 ".asciz \"%n[s0]@%[a0] -4@4(%[a1]) -4@$-5 -4@%[a2]\"\n"
			 "994: .balign 4\n"
			 ".popsection\n"
			 ".ifndef _.stapsdt.base\n"
			 ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"
			 ".weak _.stapsdt.base\n"
			 ".hidden _.stapsdt.base\n"
			 "_.stapsdt.base: .space 1\n"
			 ".size _.stapsdt.base,1\n"
			 ".popsection\n"
			 ".endif\n"
			 :
			 : [s0] "n"(4), [a0] "r"(n), [a1] "r"(p), [a2] "m"(local));
}

/* System call 8, lseek of 64-bit and creat of 32-bit programs, with 777 where a 64-bit one has its first argument. */
static int call(const char *how)
{
	long r = 8;

	if (!strcmp(how, "int80"))
		__asm__ volatile("int $0x80" : "+a"(r) : "D"(777L), "S"(0L), "d"(0L), "b"(0L), "c"(0L) : "memory", "r8", "r9", "r10", "r11");
	else
		__asm__ volatile("syscall" : "+a"(r) : "D"(777L), "S"(0L), "d"(0L) : "memory", "rcx", "r11");
	return r >= 0;
}

int main(int argc, char **argv)
{
	if (argc == 3)
		return call(argv[2]);

	struct point p = {1, argc > 1 ? atoi(argv[1]) : 0};

	hit(p.y, &p);
	return sum(p.y, argv[argc - 1], -2) == 1000; /* a text on the stack: it is in memory */
}
