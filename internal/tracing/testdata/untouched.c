/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a file whose name lies in a page that nothing has touched: the kernel is the first to read it. */
#include <fcntl.h>

static const char page[4096] __attribute__((aligned(4096))) = {1};
static const char name[4096] __attribute__((aligned(4096))) = "/vt/untouched";
static const char after[1 << 20] __attribute__((aligned(4096))) = {1};

int main(void)
{
	open(name, O_RDONLY);
	return page[0] + after[0] - 2;
}
