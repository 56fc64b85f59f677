/* Times allocators as C programs call them: `blocks` are taken, then given back in the order they came, over and over. For
 * check_figures_pool.py, which finds the functions and gives their addresses.
 *
 *     cc -O2 -shared -fPIC -o loop.so loop.c
 *
 * Each function gives the nanoseconds of one block's taking and giving back, or a negative number where there was no memory. */
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum { MAX_BLOCKS = 256 };

/* Of PyTorch's pluggable allocators: ours. */
typedef void *(*take_pluggable)(ptrdiff_t size, int device, void *stream);
typedef void (*give_pluggable)(void *block, ptrdiff_t size, int device, void *stream);
/* Of PyTorch's own allocator, in its C interface: on the current stream. */
typedef int32_t (*take_torch)(uint64_t size, void **block);
typedef int32_t (*give_torch)(void *block);
/* Of the driver: cuMemAllocAsync, cuMemFreeAsync. */
typedef int (*take_driver)(uint64_t *block, size_t size, void *stream);
typedef int (*give_driver)(uint64_t block, void *stream);

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

double loop_pluggable(take_pluggable take, give_pluggable give, size_t size, int device, void *stream, int blocks, uint64_t turns) {
    void *held[MAX_BLOCKS];
    if (blocks < 1 || blocks > MAX_BLOCKS) {
        return -2;
    }
    double begin = now();
    for (uint64_t turn = 0; turn < turns; turn++) {
        for (int i = 0; i < blocks; i++) {
            held[i] = take((ptrdiff_t)size, device, stream);
            if (!held[i]) {
                return -1;
            }
        }
        for (int i = 0; i < blocks; i++) {
            give(held[i], (ptrdiff_t)size, device, stream);
        }
    }
    return (now() - begin) / ((double)turns * blocks);
}

double loop_torch(take_torch take, give_torch give, size_t size, int blocks, uint64_t turns) {
    void *held[MAX_BLOCKS];
    if (blocks < 1 || blocks > MAX_BLOCKS) {
        return -2;
    }
    double begin = now();
    for (uint64_t turn = 0; turn < turns; turn++) {
        for (int i = 0; i < blocks; i++) {
            if (take(size, &held[i])) {
                return -1;
            }
        }
        for (int i = 0; i < blocks; i++) {
            give(held[i]);
        }
    }
    return (now() - begin) / ((double)turns * blocks);
}

double loop_driver(take_driver take, give_driver give, size_t size, void *stream, int blocks, uint64_t turns) {
    uint64_t held[MAX_BLOCKS];
    if (blocks < 1 || blocks > MAX_BLOCKS) {
        return -2;
    }
    double begin = now();
    for (uint64_t turn = 0; turn < turns; turn++) {
        for (int i = 0; i < blocks; i++) {
            if (take(&held[i], size, stream)) {
                return -1;
            }
        }
        for (int i = 0; i < blocks; i++) {
            give(held[i], stream);
        }
    }
    return (now() - begin) / ((double)turns * blocks);
}
