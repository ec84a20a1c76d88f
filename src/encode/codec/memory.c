/* A memory manager for libjpeg that takes nothing from malloc: objects lie in one piece of memory that the caller gave
 * at start. What lives as long as a picture grows from the lower end and goes all at once, which is how libjpeg's pools
 * are meant; what lives as long as the libjpeg object (quantization and Huffman tables, a bounded number) grows from
 * the upper end and stays.
 *
 * In C, as out of memory means `error_exit`, which does not return (guard.c). */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

/* libjpeg's SIMD code wants rows on 32 bytes, and writes up to twice as much past what was asked for (jmemmgr.c). */
#define ALIGN ((size_t)32)
#define ROW_ALIGN (2 * ALIGN)

/* libjpeg knows this type by name only. Here the whole array is in memory. */
struct jvirt_barray_control {
    JBLOCKARRAY rows; /* NULL until realized */
    JDIMENSION blocks_per_row;
    JDIMENSION row_count;
    boolean zero;
    struct jvirt_barray_control *next;
};

struct arena {
    struct jpeg_memory_mgr methods; /* first: `cinfo->mem` points here */
    struct jpeg_memory_mgr *libjpegs_own;
    uint8_t *start;
    uint8_t *low;  /* from `start` to here is the picture's */
    uint8_t *high; /* from here on is the object's */
    struct jvirt_barray_control *arrays;
};

static struct arena *arena_of(j_common_ptr cinfo)
{
    return (struct arena *)cinfo->mem;
}

static void *take(j_common_ptr cinfo, int pool, size_t size, size_t count, size_t align)
{
    struct arena *arena = arena_of(cinfo);
    size_t room = arena->high - arena->low;

    if (count > 0 && size > room / count)
        ERREXIT1(cinfo, JERR_OUT_OF_MEMORY, pool);
    size = (size * count + align - 1) & ~(align - 1);
    if (size > room)
        ERREXIT1(cinfo, JERR_OUT_OF_MEMORY, pool);
    if (pool == JPOOL_PERMANENT)
        return arena->high -= size;
    arena->low += size;
    return arena->low - size;
}

static void *alloc(j_common_ptr cinfo, int pool, size_t size)
{
    return take(cinfo, pool, size, 1, ALIGN);
}

static JSAMPARRAY alloc_sarray(j_common_ptr cinfo, int pool, JDIMENSION samples, JDIMENSION count)
{
    size_t width = ((size_t)samples + ROW_ALIGN - 1) & ~(ROW_ALIGN - 1);
    JSAMPARRAY rows = take(cinfo, pool, sizeof *rows, count, ALIGN);
    JSAMPROW row = take(cinfo, pool, width, count, ALIGN);

    for (JDIMENSION i = 0; i < count; i++)
        rows[i] = row + i * width;
    return rows;
}

static JBLOCKARRAY alloc_barray(j_common_ptr cinfo, int pool, JDIMENSION blocks, JDIMENSION count)
{
    size_t width = blocks * sizeof(JBLOCK);
    JBLOCKARRAY rows = take(cinfo, pool, sizeof *rows, count, ALIGN);
    JBLOCKROW row = take(cinfo, pool, width, count, ALIGN);

    for (JDIMENSION i = 0; i < count; i++)
        rows[i] = row + (size_t)i * blocks;
    return rows;
}

/* Only for colour quantization, which nobody asks for. */
static jvirt_sarray_ptr request_virt_sarray(j_common_ptr cinfo, int pool, boolean zero, JDIMENSION samples,
                                            JDIMENSION count, JDIMENSION at_once)
{
    (void)pool, (void)zero, (void)samples, (void)count, (void)at_once;
    ERREXIT(cinfo, JERR_NOT_COMPILED);
    return NULL;
}

static JSAMPARRAY access_virt_sarray(j_common_ptr cinfo, jvirt_sarray_ptr array, JDIMENSION first, JDIMENSION count,
                                     boolean writable)
{
    (void)array, (void)first, (void)count, (void)writable;
    ERREXIT(cinfo, JERR_NOT_COMPILED);
    return NULL;
}

/* The coefficients of a JPEG in several scans, progressive ones above all, or of one that is turned. */
static jvirt_barray_ptr request_virt_barray(j_common_ptr cinfo, int pool, boolean zero, JDIMENSION blocks,
                                            JDIMENSION count, JDIMENSION at_once)
{
    struct jvirt_barray_control *array = alloc(cinfo, pool, sizeof *array);

    (void)at_once; /* accessible always */
    array->rows = NULL;
    array->blocks_per_row = blocks;
    array->row_count = count;
    array->zero = zero;
    array->next = arena_of(cinfo)->arrays;
    arena_of(cinfo)->arrays = array;
    return array;
}

static void realize_virt_arrays(j_common_ptr cinfo)
{
    for (struct jvirt_barray_control *array = arena_of(cinfo)->arrays; array; array = array->next) {
        if (array->rows || array->row_count == 0)
            continue;
        array->rows = alloc_barray(cinfo, JPOOL_IMAGE, array->blocks_per_row, array->row_count);
        if (array->zero)
            memset(array->rows[0], 0, array->row_count * array->blocks_per_row * sizeof(JBLOCK));
    }
}

static JBLOCKARRAY access_virt_barray(j_common_ptr cinfo, jvirt_barray_ptr array, JDIMENSION first, JDIMENSION count,
                                      boolean writable)
{
    (void)writable;
    if (!array->rows || first > array->row_count || count > array->row_count - first)
        ERREXIT(cinfo, JERR_BAD_VIRTUAL_ACCESS);
    return array->rows + first;
}

static void free_pool(j_common_ptr cinfo, int pool)
{
    struct arena *arena = arena_of(cinfo);

    if (pool == JPOOL_IMAGE) {
        arena->low = arena->start;
        arena->arrays = NULL;
    }
}

/* The arena's memory is its giver's. */
static void self_destruct(j_common_ptr cinfo)
{
    cinfo->mem = arena_of(cinfo)->libjpegs_own;
    cinfo->mem->self_destruct(cinfo);
}

/* Lets an object that was just created take all further memory from `size` bytes at `bytes`, until it is destroyed. */
void camd_jpeg_use_memory(j_common_ptr cinfo, uint8_t *bytes, size_t size)
{
    uint8_t *end = bytes + size;
    struct arena *arena;

    bytes += -(uintptr_t)bytes % ALIGN;
    arena = (struct arena *)bytes;
    arena->methods = *cinfo->mem;
    arena->methods.alloc_small = alloc;
    arena->methods.alloc_large = alloc;
    arena->methods.alloc_sarray = alloc_sarray;
    arena->methods.alloc_barray = alloc_barray;
    arena->methods.request_virt_sarray = request_virt_sarray;
    arena->methods.request_virt_barray = request_virt_barray;
    arena->methods.realize_virt_arrays = realize_virt_arrays;
    arena->methods.access_virt_sarray = access_virt_sarray;
    arena->methods.access_virt_barray = access_virt_barray;
    arena->methods.free_pool = free_pool;
    arena->methods.self_destruct = self_destruct;
    arena->libjpegs_own = cinfo->mem;
    arena->start = bytes + ((sizeof *arena + ALIGN - 1) & ~(ALIGN - 1));
    arena->low = arena->start;
    arena->high = end - (uintptr_t)end % ALIGN;
    arena->arrays = NULL;
    cinfo->mem = &arena->methods;
}
