/* What the tests of hooks share: a pool of the device as PyTorch's allocator, and streams of the program's own. */
#ifndef HOOKS_H
#define HOOKS_H

#include "cuda.h"

/* PyTorch's functions of one number, by their types. */
typedef struct {
    uint32_t number;
    void *(*alloc)(size_t, int, void *);
    void (*release)(void *, size_t, int, void *);
    void (*record_stream)(void *, void *);
    void (*empty_cache)(void);
} torch_t;

static inline void *numbered(const char *what, uint32_t number) {
    char name[64];
    snprintf(name, sizeof name, "neuro_torch_%s_%u", what, number);
    neuro_function_t found = neuro_find_function(name);
    void *address;
    memcpy(&address, &found, sizeof address);
    return address;
}

static inline torch_t functions_of(uint32_t number) {
    torch_t torch = {.number = number};
    *(void **)&torch.alloc = numbered("alloc", number);
    *(void **)&torch.release = numbered("free", number);
    *(void **)&torch.record_stream = numbered("record_stream", number);
    *(void **)&torch.empty_cache = numbered("empty_cache", number);
    return torch;
}

static inline neuro_pool_t *pool_of(size_t limit) {
    neuro_pool_options_t options = {.struct_size = sizeof options, .limit_bytes = limit, .device = gpu};
    neuro_pool_t *pool = NULL;
    neuro_pool_create(&options, &pool);
    return pool;
}

static inline neuro_pool_stats_t stats_of(const neuro_pool_t *pool) {
    neuro_pool_stats_t stats;
    memset(&stats, 0, sizeof stats);
    stats.struct_size = sizeof stats;
    neuro_pool_get_stats(pool, &stats);
    return stats;
}

static inline int fills(void *block, unsigned value, size_t words, void *stream) {
    return cu.fill((uint64_t)(uintptr_t)block, value, words, stream) == 0;
}

#endif
