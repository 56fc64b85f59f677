/* What a pool can do besides handing out blocks: its options, scopes, injected failures, debug mode, all of its figures. */
#include "check.h"
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static neuro_pool_t *pool_with(neuro_pool_options_t options) {
    neuro_pool_t *pool;
    options.struct_size = sizeof options;
    return neuro_pool_create(&options, &pool) == NEURO_OK ? pool : NULL;
}

static neuro_pool_stats_t stats_of(const neuro_pool_t *pool) {
    neuro_pool_stats_t stats = {.struct_size = sizeof stats};
    if (neuro_pool_get_stats(pool, &stats) != NEURO_OK) {
        memset(&stats, 0xff, sizeof stats);
    }
    return stats;
}

/* Under AddressSanitizer blocks are longer by a red zone, and freed ones wait in a quarantine. */
static int guarded(void) {
    return getenv("NM_UNDER_ASAN") != NULL;
}

static void sleep_milliseconds(long time) {
    nanosleep(&(struct timespec){.tv_sec = time / 1000, .tv_nsec = time % 1000 * 1000000}, NULL);
}

/* Whether at most so many bytes are committed within ten seconds. */
static int comes_down_to(const neuro_pool_t *pool, size_t bytes) {
    for (int i = 0; i < 500; i++) {
        if (stats_of(pool).committed_bytes <= bytes) {
            return 1;
        }
        sleep_milliseconds(20);
    }
    printf("  %zu bytes are committed\n", stats_of(pool).committed_bytes);
    return 0;
}

static void no_call(void *context, const neuro_pool_stats_t *stats) {
    (void)context;
    (void)stats;
}

static void wrong_options_are_refused(void) {
    neuro_pool_t *pool = (neuro_pool_t *)&pool;
#define REFUSED(words, ...)                                                                              \
    do {                                                                                                 \
        neuro_pool_options_t options = {.struct_size = sizeof options, __VA_ARGS__};                     \
        CHECK_FAILS(neuro_pool_create(&options, &pool), NEURO_INVALID_ARGUMENT, words);                  \
        CHECK(pool == NULL);                                                                             \
    } while (0)
    REFUSED("unknown flags 0x40; known are NEURO_POOL_PREFAULT (1), NEURO_POOL_DEBUG (2), NEURO_POOL_NO_DECAY (4)", .flags = 64);
    REFUSED("unknown flags 0xffffffffffffffc0;", .flags = UINT64_MAX);
    REFUSED("a decay of 10 ms at once", .flags = NEURO_POOL_NO_DECAY, .decay_milliseconds = 10);
    REFUSED("soft_limit_bytes 5 without soft_limit_callback", .soft_limit_bytes = 5);
    REFUSED("soft_limit_callback without soft_limit_bytes", .soft_limit_callback = no_call);
    CHECK(strcmp(neuro_status_name(NEURO_CORRUPTED), "NEURO_CORRUPTED") == 0);
    neuro_pool_t *stale = pool_with((neuro_pool_options_t){.limit_bytes = MIB});
    CHECK_OK(neuro_pool_release(stale));
    CHECK_FAILS(neuro_pool_check(stale), NEURO_INVALID_ARGUMENT, "neuro_pool_check: 0x");
    CHECK_FAILS(neuro_pool_fail_nth(stale, 1), NEURO_INVALID_ARGUMENT, "neuro_pool_fail_nth: 0x");
    CHECK_OK(neuro_pool_check(NULL));
    CHECK_OK(neuro_pool_fail_nth(NULL, 0));
}

static void the_extremes_of_options_are_taken(void) {
    neuro_pool_t *pool = pool_with((neuro_pool_options_t){
        .limit_bytes = SIZE_MAX, .flags = NEURO_POOL_PREFAULT | NEURO_POOL_DEBUG, .decay_milliseconds = UINT64_MAX,
        .keep_bytes = SIZE_MAX, .soft_limit_bytes = SIZE_MAX, .soft_limit_callback = no_call});
    void *block;
    CHECK(pool != NULL);
    CHECK_OK(neuro_pool_allocate(pool, 3 * MIB, 0, &block));
    CHECK_OK(neuro_pool_free(block));
    CHECK(stats_of(pool).live_blocks == 0);
    CHECK_OK(neuro_pool_release(pool));
}

/* Allocates, writes and frees so many MiB. */
static void use_and_free(neuro_pool_t *pool, size_t mib) {
    void *block;
    CHECK_OK(neuro_pool_allocate(pool, mib * MIB, 0, &block));
    memset(block, 1, mib * MIB);
    CHECK_OK(neuro_pool_free(block));
}

static void unused_memory_goes_back_by_itself(void) {
    neuro_pool_t *quick = pool_with((neuro_pool_options_t){.decay_milliseconds = 50});
    neuro_pool_t *keeps = pool_with((neuro_pool_options_t){.decay_milliseconds = 50, .keep_bytes = 8 * MIB});
    neuro_pool_t *never = pool_with((neuro_pool_options_t){.flags = NEURO_POOL_NO_DECAY});
    use_and_free(quick, 64);
    use_and_free(keeps, 64);
    use_and_free(never, 64);
    CHECK(comes_down_to(quick, 2 * MIB));
    CHECK(comes_down_to(keeps, 10 * MIB));
    sleep_milliseconds(200);
    CHECK(stats_of(keeps).committed_bytes >= 8 * MIB);
    CHECK(stats_of(never).committed_bytes >= 64 * MIB);
    CHECK(stats_of(never).cached_bytes == stats_of(never).committed_bytes);
    CHECK_OK(neuro_pool_release(quick));
    CHECK_OK(neuro_pool_release(keeps));
    CHECK_OK(neuro_pool_release(never));
}

static size_t resident_bytes(void) {
    unsigned long all = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file != NULL) {
        if (fscanf(file, "%lu %lu", &all, &resident) != 2) {
            resident = 0;
        }
        fclose(file);
    }
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void memory_is_there_before_its_first_use(void) {
    neuro_pool_t *pool = pool_with((neuro_pool_options_t){.flags = NEURO_POOL_PREFAULT});
    void *block;
    size_t before = resident_bytes();
    CHECK_OK(neuro_pool_allocate(pool, 64 * MIB, 0, &block));
    CHECK(before == 0 || resident_bytes() - before >= 60 * MIB);
    CHECK_OK(neuro_pool_free(block));
    CHECK_OK(neuro_pool_release(pool));
}

/* What a soft limit's callback does: it uses the pool that it is called for. */
struct watcher {
    neuro_pool_t *pool;
    int calls;
    size_t seen;
    void *victim;
    neuro_status_t worst;
};

static void watch(void *context, const neuro_pool_stats_t *stats) {
    struct watcher *watcher = context;
    void *block;
    neuro_pool_stats_t now = {.struct_size = sizeof now};
    neuro_status_t statuses[] = {
        neuro_pool_allocate(watcher->pool, 100, 0, &block), neuro_pool_free(block),
        neuro_pool_free(watcher->victim), neuro_pool_trim(watcher->pool, 0, NULL),
        neuro_pool_get_stats(watcher->pool, &now),
    };
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        watcher->worst = statuses[i] != NEURO_OK ? statuses[i] : watcher->worst;
    }
    watcher->victim = NULL;
    watcher->calls++;
    watcher->seen = stats->struct_size == sizeof *stats ? stats->live_bytes : 0;
}

static void a_soft_limit_calls_once_for_each_rise(void) {
    struct watcher watcher = {.worst = NEURO_OK};
    watcher.pool = pool_with((neuro_pool_options_t){
        .soft_limit_bytes = MIB, .soft_limit_callback = watch, .soft_limit_context = &watcher});
    void *first, *second, *third, *small;
    CHECK_OK(neuro_pool_allocate(watcher.pool, 600000, 0, &first));
    CHECK(watcher.calls == 0);
    CHECK_OK(neuro_pool_allocate(watcher.pool, 600000, 0, &second));
    CHECK(watcher.calls == 1 && watcher.seen > MIB && watcher.seen < 3 * MIB);
    CHECK_OK(neuro_pool_allocate(watcher.pool, 600000, 0, &third));
    CHECK(watcher.calls == 1);
    /* Below again: the next rise calls, and what the callback frees is free. */
    CHECK_OK(neuro_pool_free(second));
    CHECK_OK(neuro_pool_free(third));
    CHECK_OK(neuro_pool_allocate(watcher.pool, 1000, 0, &small));
    watcher.victim = first;
    CHECK_OK(neuro_pool_allocate(watcher.pool, 600000, 0, &second));
    CHECK(watcher.calls == 2 && watcher.worst == NEURO_OK);
    CHECK(stats_of(watcher.pool).live_blocks == 2);
    /* It took them below the limit itself. */
    CHECK_OK(neuro_pool_allocate(watcher.pool, 600000, 0, &third));
    CHECK(watcher.calls == 3);
    CHECK_OK(neuro_pool_free(second));
    CHECK_OK(neuro_pool_free(third));
    CHECK_OK(neuro_pool_free(small));
    CHECK_OK(neuro_pool_release(watcher.pool));
}

static neuro_counters_t counters_of(const neuro_scope_t *scope) {
    neuro_counters_t counters = {.struct_size = sizeof counters};
    if (neuro_scope_get(scope, &counters) != NEURO_OK) {
        memset(&counters, 0xff, sizeof counters);
    }
    return counters;
}

static void scopes_count_exactly_and_for_themselves(void) {
    neuro_pool_t *pool = pool_with((neuro_pool_options_t){.limit_bytes = 0});
    neuro_scope_t *outer, *inner;
    void *before, *small, *large;
    CHECK_OK(neuro_pool_allocate(pool, 500, 0, &before));
    CHECK_OK(neuro_pool_scope_begin(pool, &outer));
    neuro_counters_t counters = counters_of(outer);
    CHECK(counters.struct_size == sizeof counters);
    CHECK(counters.requested.current == 500 && counters.requested.peak == 500 && counters.requested.total == 0);
    CHECK(counters.blocks.current == 1 && counters.blocks.total == 0);

    CHECK_OK(neuro_pool_allocate(pool, 100, 0, &small));
    CHECK_OK(neuro_pool_allocate(pool, 100000, 0, &large));
    CHECK_OK(neuro_pool_scope_begin(pool, &inner));
    CHECK_OK(neuro_pool_free(large));
    counters = counters_of(outer);
    CHECK(counters.requested.current == 600 && counters.requested.peak == 100600 && counters.requested.total == 100100);
    CHECK(counters.blocks.current == 2 && counters.blocks.peak == 3 && counters.blocks.total == 2);
    CHECK(counters.allocated.current >= 640 && counters.allocated.peak >= counters.allocated.total);
    if (!guarded()) {
        CHECK(counters.allocated.current == 512 + 128);
        CHECK(counters.allocated.peak == 512 + 128 + 100032 && counters.allocated.total == 128 + 100032);
    }
    CHECK(stats_of(pool).requested_bytes == 600);

    /* A reset is the scope's own. */
    CHECK_OK(neuro_scope_reset(outer));
    counters = counters_of(outer);
    CHECK(counters.requested.current == 600 && counters.requested.peak == 600 && counters.requested.total == 0);
    CHECK(counters_of(inner).requested.peak == 100600 && counters_of(inner).requested.total == 0);
    CHECK(stats_of(pool).peak_requested_bytes == 100600 && stats_of(pool).total_requested_bytes == 100600);

    /* A scope keeps its pool. */
    CHECK_OK(neuro_scope_end(outer));
    CHECK_OK(neuro_pool_release(pool));
    CHECK_OK(neuro_pool_free(small));
    CHECK_OK(neuro_pool_free(before));
    CHECK(counters_of(inner).requested.current == 0 && counters_of(inner).blocks.current == 0);
    CHECK_OK(neuro_scope_end(inner));
    CHECK_OK(neuro_scope_end(NULL));
    CHECK_OK(neuro_pool_scope_begin(NULL, &outer));
    CHECK_OK(neuro_scope_end(outer));
}

static void wrong_scopes_are_refused(void) {
    neuro_pool_t *pool = pool_with((neuro_pool_options_t){.limit_bytes = 0});
    neuro_scope_t *scope, *none = (neuro_scope_t *)&none;
    neuro_counters_t counters = {.struct_size = sizeof counters};
    CHECK_OK(neuro_pool_scope_begin(pool, &scope));
    CHECK_FAILS(neuro_scope_get(scope, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_scope_get((neuro_scope_t *)pool, &counters), NEURO_INVALID_ARGUMENT, "no live neuro_scope_t");
    CHECK_FAILS(neuro_scope_get(NULL, &counters), NEURO_INVALID_ARGUMENT, "the neuro_scope_t is NULL");
    CHECK_FAILS(neuro_pool_release((neuro_pool_t *)scope), NEURO_INVALID_FREE, "no live neuro_pool_t");
    CHECK_OK(neuro_scope_end(scope));
    CHECK_FAILS(neuro_scope_end(scope), NEURO_INVALID_FREE, "neuro_scope_end: 0x");
    counters.blocks.total = 7;
    CHECK_FAILS(neuro_scope_get(scope, &counters), NEURO_INVALID_ARGUMENT, "no live neuro_scope_t");
    CHECK(counters.blocks.total == 0);
    CHECK_FAILS(neuro_scope_reset(scope), NEURO_INVALID_ARGUMENT, "no live neuro_scope_t");
    counters.struct_size = 0;
    CHECK_FAILS(neuro_scope_get(scope, &counters), NEURO_INVALID_ARGUMENT, "struct_size is 0");
    CHECK_OK(neuro_pool_release(pool));
    CHECK_FAILS(neuro_pool_scope_begin(pool, &none), NEURO_INVALID_ARGUMENT, "no live neuro_pool_t");
    CHECK(none == NULL);
    CHECK_FAILS(neuro_pool_scope_begin(NULL, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
}

static void the_nth_allocation_fails_and_no_other(void) {
    neuro_pool_t *pool = pool_with((neuro_pool_options_t){.limit_bytes = 0});
    neuro_tensor_t *tensor;
    void *blocks[3], *failed = &failed;
    CHECK_OK(neuro_pool_fail_nth(pool, 3));
    CHECK_OK(neuro_pool_allocate(pool, 10, 0, &blocks[0]));
    CHECK_OK(neuro_pool_allocate(pool, 10, 0, &blocks[1]));
    CHECK_FAILS(neuro_pool_allocate(pool, 10, 0, &failed), NEURO_OUT_OF_MEMORY, "fail_nth");
    CHECK(failed == NULL);
    CHECK_OK(neuro_pool_fail_nth(pool, 1));
    CHECK_FAILS(neuro_tensor_zeros(pool, NEURO_DTYPE_INT8, 1, (int64_t[]){5}, &tensor), NEURO_OUT_OF_MEMORY, "fail_nth");
    CHECK(tensor == NULL);
    CHECK_OK(neuro_pool_fail_nth(pool, 1));
    CHECK_OK(neuro_pool_fail_nth(pool, 0));
    CHECK_OK(neuro_pool_allocate(pool, 10, 0, &blocks[2]));
    for (int i = 0; i < 3; i++) {
        CHECK_OK(neuro_pool_free(blocks[i]));
    }
    CHECK_OK(neuro_pool_release(pool));
}

/* In debug mode the pool looks after its blocks itself, and marks nothing for AddressSanitizer: these writes stay within
 * memory of the pool that may be touched. */
static void debug_mode_finds_wrong_writes(void) {
    neuro_pool_t *pool = pool_with((neuro_pool_options_t){.flags = NEURO_POOL_DEBUG});
    volatile unsigned char *block;
    char words[64];
    for (size_t bytes = 1; bytes <= MIB; bytes = bytes * 5 + 3) {
        CHECK_OK(neuro_pool_allocate(pool, bytes, 0, (void **)&block));
        CHECK_OK(neuro_pool_check(pool));
        block[bytes] = 1;
        snprintf(words, sizeof words, "1 B were written behind the %zu B of the block at", bytes);
        CHECK_FAILS(neuro_pool_check(pool), NEURO_CORRUPTED, words);
        CHECK_FAILS(neuro_pool_free((void *)block), NEURO_CORRUPTED, words);
        CHECK(stats_of(pool).live_blocks == 0);

        CHECK_OK(neuro_pool_allocate(pool, bytes, 0, (void **)&block));
        CHECK_OK(neuro_pool_free((void *)block));
        unsigned char poison = block[bytes / 2];
        block[bytes / 2] = (unsigned char)~poison;
        CHECK_FAILS(neuro_pool_check(pool), NEURO_CORRUPTED, "was written: 1 B");
        block[bytes / 2] = poison;
        CHECK_OK(neuro_pool_check(pool));
        CHECK_FAILS(neuro_pool_free((void *)block), NEURO_INVALID_FREE, "nothing was changed");
    }
    CHECK_OK(neuro_pool_allocate_zeroed(pool, 1000, 0, (void **)&block));
    for (int i = 0; i < 1000; i++) {
        CHECK(block[i] == 0);
    }
    CHECK_OK(neuro_pool_free((void *)block));
    CHECK_OK(neuro_pool_release(pool));
}

static void figures_agree(const neuro_pool_t *pool) {
    neuro_pool_stats_t s = stats_of(pool);
    CHECK(s.requested_bytes <= s.live_bytes && s.live_bytes <= s.committed_bytes && s.committed_bytes <= s.reserved_bytes);
    CHECK(s.requested_bytes <= s.peak_requested_bytes && s.peak_requested_bytes <= s.total_requested_bytes);
    CHECK(s.live_bytes <= s.peak_bytes && s.peak_bytes <= s.total_bytes);
    CHECK(s.committed_bytes <= s.peak_committed_bytes && s.peak_committed_bytes <= s.total_committed_bytes);
    CHECK(s.reserved_bytes <= s.peak_reserved_bytes && s.peak_reserved_bytes <= s.total_reserved_bytes);
    CHECK(s.cached_bytes == s.committed_bytes - s.live_bytes);
    CHECK(s.largest_hole_bytes <= s.hole_bytes && s.fragmentation_percent <= 100);
    CHECK(s.cache_bytes + s.slab_free_bytes <= s.committed_bytes);
    CHECK(s.pinned_bytes == 0);
    CHECK(s.cache_bytes >= 64 * s.cache_blocks && (s.caches > 0 || s.cache_blocks == 0));
}

static void figures_answer_leak_or_cache_or_holes(void) {
    enum { SMALL = 1000, LARGE = 10 };
    neuro_pool_t *pool = pool_with((neuro_pool_options_t){.flags = NEURO_POOL_NO_DECAY});
    void *small[SMALL], *large[LARGE];
    figures_agree(pool);
    for (int i = 0; i < SMALL; i++) {
        CHECK_OK(neuro_pool_allocate(pool, 100, 0, &small[i]));
    }
    for (int i = 0; i < LARGE; i++) {
        CHECK_OK(neuro_pool_allocate(pool, MIB, 0, &large[i]));
    }
    figures_agree(pool);
    CHECK(stats_of(pool).requested_bytes == SMALL * 100 + LARGE * MIB);
    CHECK(stats_of(pool).total_requested_bytes == SMALL * 100 + LARGE * MIB);
    for (int i = 0; i < LARGE; i += 2) {
        CHECK_OK(neuro_pool_free(large[i]));
    }
    for (int i = 0; i < SMALL; i++) {
        CHECK_OK(neuro_pool_free(small[i]));
    }
    figures_agree(pool);
    neuro_pool_stats_t stats = stats_of(pool);
    CHECK(stats.requested_bytes == LARGE / 2 * MIB && stats.total_allocations == SMALL + LARGE);
    if (!guarded()) {
        CHECK(stats.live_bytes == LARGE / 2 * MIB);
        CHECK(stats.hole_bytes >= 4 * MIB && stats.largest_hole_bytes >= MIB && stats.largest_hole_bytes < 2 * MIB);
        CHECK(stats.fragmentation_percent >= 50 && stats.fragmentation_percent < 100);
        CHECK(stats.caches == 1 && stats.cache_blocks > 0 && stats.cache_bytes == 128 * stats.cache_blocks);
    }
    for (int i = 1; i < LARGE; i += 2) {
        CHECK_OK(neuro_pool_free(large[i]));
    }
    figures_agree(pool);
    figures_agree(NULL);
    CHECK(stats_of(pool).requested_bytes == 0 && stats_of(pool).live_bytes == 0);
    neuro_pool_stats_t all = {.struct_size = sizeof all};
    CHECK_OK(neuro_get_stats(&all));
    CHECK(all.total_requested_bytes >= SMALL * 100 + LARGE * MIB && all.limit_bytes == 0);
    CHECK_OK(neuro_pool_release(pool));
}

/* A ring of blocks that one thread takes from the pool and another gives back. */
enum { RING = 4096 };
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    void *blocks[RING];
    size_t put, taken;
} ring = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

struct half {
    neuro_pool_t *pool;
    size_t blocks, failures;
};

static void *allocate_all(void *argument) {
    struct half *half = argument;
    uint32_t random = 12345;
    for (size_t i = 0; i < half->blocks; i++) {
        unsigned char *block;
        random = random * 1664525 + 1013904223;
        /* Mostly small, some medium, a few large. */
        size_t bytes = (random >> 8) % (i % 1000 == 0 ? 300000 : i % 50 == 0 ? 60000 : 2000) + 1;
        if (neuro_pool_allocate(half->pool, bytes, 0, (void **)&block) != NEURO_OK) {
            half->failures++;
        } else {
            block[0] = block[bytes - 1] = 1;
        }
        pthread_mutex_lock(&ring.mutex);
        while (ring.put - ring.taken == RING) {
            pthread_cond_wait(&ring.changed, &ring.mutex);
        }
        ring.blocks[ring.put++ % RING] = block;
        pthread_cond_signal(&ring.changed);
        pthread_mutex_unlock(&ring.mutex);
    }
    return NULL;
}

static void *free_all(void *argument) {
    struct half *half = argument;
    for (size_t i = 0; i < half->blocks; i++) {
        pthread_mutex_lock(&ring.mutex);
        while (ring.put == ring.taken) {
            pthread_cond_wait(&ring.changed, &ring.mutex);
        }
        void *block = ring.blocks[ring.taken++ % RING];
        pthread_cond_signal(&ring.changed);
        pthread_mutex_unlock(&ring.mutex);
        half->failures += neuro_pool_free(block) != NEURO_OK;
    }
    return NULL;
}

static void one_thread_allocates_and_another_frees(void) {
    /* Under valgrind, which runs one thread at a time, fewer. */
    size_t blocks = getenv("NM_UNDER_VALGRIND") != NULL ? 20000 : 200000;
    neuro_pool_t *pool = pool_with((neuro_pool_options_t){.limit_bytes = 256 * MIB});
    struct half first = {pool, blocks, 0}, second = {pool, blocks, 0};
    pthread_t threads[2];
    CHECK(pthread_create(&threads[0], NULL, allocate_all, &first) == 0);
    CHECK(pthread_create(&threads[1], NULL, free_all, &second) == 0);
    CHECK(pthread_join(threads[0], NULL) == 0);
    CHECK(pthread_join(threads[1], NULL) == 0);
    CHECK(first.failures == 0 && second.failures == 0);
    neuro_pool_stats_t stats = stats_of(pool);
    CHECK(stats.total_allocations == blocks);
    CHECK(stats.live_blocks == 0 && stats.live_bytes == 0 && stats.requested_bytes == 0);
    CHECK_OK(neuro_pool_trim(pool, 0, NULL));
    CHECK(stats_of(pool).committed_bytes <= 4 * MIB && stats_of(pool).free_runs == stats_of(pool).regions);
    figures_agree(pool);
    CHECK_OK(neuro_pool_release(pool));
}

int main(void) {
    RUN(wrong_options_are_refused);
    RUN(the_extremes_of_options_are_taken);
    RUN(unused_memory_goes_back_by_itself);
    RUN(memory_is_there_before_its_first_use);
    RUN(a_soft_limit_calls_once_for_each_rise);
    RUN(scopes_count_exactly_and_for_themselves);
    RUN(wrong_scopes_are_refused);
    RUN(the_nth_allocation_fails_and_no_other);
    RUN(debug_mode_finds_wrong_writes);
    RUN(figures_answer_leak_or_cache_or_holes);
    RUN(one_thread_allocates_and_another_frees);
    return DONE();
}
