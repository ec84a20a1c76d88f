// Counts what a program allocates, in 8 bytes at /tmp/allocations that others can read while it runs.
//   LD_PRELOAD=allocations.so PROGRAM
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

// The C library's own, which it exports by these names, too.
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
	*__libc_memalign(size_t, size_t);

static uint64_t *count;

__attribute__((constructor)) static void begin(void)
{
	int file = open("/tmp/allocations", O_RDWR | O_CREAT, 0600);
	if (file < 0 || ftruncate(file, sizeof *count))
		abort();
	count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (count == MAP_FAILED)
		abort();
}

static void one_more(void)
{
	if (count)
		__atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
}

void *malloc(size_t size)
{
	one_more();
	return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
	one_more();
	return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
	one_more();
	return __libc_realloc(old, size);
}

int posix_memalign(void **to, size_t alignment, size_t size)
{
	one_more();
	*to = __libc_memalign(alignment, size);
	return *to ? 0 : 12; // ENOMEM
}
