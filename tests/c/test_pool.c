/* Pools and their blocks. */
#include "check.h"

static neuro_pool_t *pool_with(size_t limit_bytes, size_t alignment) {
    neuro_pool_options_t options = {.struct_size = sizeof options, .limit_bytes = limit_bytes, .alignment = alignment};
    neuro_pool_t *pool;
    return neuro_pool_create(&options, &pool) == NEURO_OK ? pool : NULL;
}

static neuro_pool_stats_t stats_of(const neuro_pool_t *pool) {
    neuro_pool_stats_t stats = {.struct_size = sizeof stats};
    if (neuro_pool_get_stats(pool, &stats) != NEURO_OK) {
        memset(&stats, 0xff, sizeof stats);
    }
    return stats;
}

static void versions_agree(void) {
    CHECK(neuro_abi_version() == NEURO_ABI_VERSION);
    CHECK(strcmp(neuro_version(), NEURO_VERSION) == 0);
}

static void dtypes_have_names_and_sizes(void) {
    uint32_t dtype;
    CHECK(neuro_dtype_size(NEURO_DTYPE_BOOL) == 1);
    CHECK(neuro_dtype_size(NEURO_DTYPE_FLOAT32) == sizeof(float));
    CHECK(neuro_dtype_size(NEURO_DTYPE_COMPLEX128) == 2 * sizeof(double));
    CHECK(strcmp(neuro_dtype_name(NEURO_DTYPE_BFLOAT16), "bfloat16") == 0);
    CHECK_OK(neuro_dtype_from_name("float64", &dtype));
    CHECK(dtype == NEURO_DTYPE_FLOAT64);
}

static void blocks_are_aligned_and_counted(void) {
    neuro_pool_t *pool = pool_with(0, 0);
    void *a, *b, *zero_bytes;
    CHECK_OK(neuro_pool_allocate(pool, 1000, 0, &a));
    CHECK_OK(neuro_pool_allocate(pool, 10, 1 << 20, &b));
    CHECK_OK(neuro_pool_allocate(pool, 0, 0, &zero_bytes));
    CHECK((uintptr_t)a % 64 == 0);
    CHECK((uintptr_t)b % (1 << 20) == 0);
    CHECK(zero_bytes != NULL && zero_bytes != a && zero_bytes != b);
    memset(a, 1, 1000);

    neuro_pool_stats_t stats = stats_of(pool);
    CHECK(stats.struct_size == sizeof stats);
    CHECK(stats.limit_bytes == 0);
    CHECK(stats.alignment == 64);
    CHECK(stats.live_blocks == 3);
    CHECK(stats.live_bytes >= 1010);
    CHECK(stats.peak_bytes >= stats.live_bytes);
    CHECK(stats.reserved_bytes >= stats.committed_bytes);
    CHECK(stats.committed_bytes >= stats.live_bytes);
    CHECK(stats.total_allocations == 3);

    CHECK_OK(neuro_pool_free(a));
    CHECK_OK(neuro_pool_free(b));
    CHECK_OK(neuro_pool_free(zero_bytes));
    CHECK_OK(neuro_pool_free(NULL));
    stats = stats_of(pool);
    CHECK(stats.live_blocks == 0 && stats.live_bytes == 0);
    /* Under AddressSanitizer freed blocks wait in a quarantine. */
    CHECK(stats.free_runs == stats.regions || getenv("NM_UNDER_ASAN") != NULL);
    CHECK(stats.peak_bytes > 0);
    CHECK_OK(neuro_pool_reset_peak(pool));
    CHECK(stats_of(pool).peak_bytes == 0);
    CHECK_OK(neuro_pool_release(pool));
}

static void zeroed_blocks_are_zero_where_others_were(void) {
    neuro_pool_t *pool = pool_with(0, 0);
    unsigned char *block;
    CHECK_OK(neuro_pool_allocate(pool, 4096, 0, (void **)&block));
    memset(block, 0xab, 4096);
    CHECK_OK(neuro_pool_free(block));
    CHECK_OK(neuro_pool_allocate_zeroed(pool, 4096, 0, (void **)&block));
    for (int i = 0; i < 4096; i++) {
        CHECK(block[i] == 0);
    }
    CHECK_OK(neuro_pool_free(block));
    CHECK_OK(neuro_pool_release(pool));
}

static void reallocation_keeps_the_contents(void) {
    neuro_pool_t *pool = pool_with(0, 0);
    void *first, *neighbour, *grown, *shrunk;
    CHECK_OK(neuro_pool_allocate(pool, 100, 0, &first));
    CHECK_OK(neuro_pool_allocate(pool, 100, 0, &neighbour));
    memset(first, 7, 100);
    CHECK_OK(neuro_pool_reallocate(first, 100000, 0, &grown));
    for (int i = 0; i < 100; i++) {
        CHECK(((char *)grown)[i] == 7);
    }
    CHECK_OK(neuro_pool_reallocate(grown, 50, 0, &shrunk));
    CHECK(((char *)shrunk)[49] == 7);
    CHECK(stats_of(pool).live_blocks == 2);
    CHECK_OK(neuro_pool_free(shrunk));
    CHECK_OK(neuro_pool_free(neighbour));
    CHECK_OK(neuro_pool_release(pool));
}

static void blocks_outlive_the_handle_of_their_pool(void) {
    neuro_pool_t *pool = pool_with(1 << 20, 256);
    void *block;
    CHECK_OK(neuro_pool_allocate(pool, 500, 0, &block));
    CHECK((uintptr_t)block % 256 == 0);
    CHECK_OK(neuro_pool_retain(pool));
    CHECK_OK(neuro_pool_release(pool));
    CHECK_OK(neuro_pool_release(pool));
    memset(block, 1, 500);
    CHECK_OK(neuro_pool_free(block));
}

static void trim_gives_memory_back(void) {
    neuro_pool_t *pool = pool_with(0, 0);
    size_t given_back = 0;
    void *block;
    CHECK_OK(neuro_pool_allocate(pool, 64 << 20, 0, &block));
    CHECK_OK(neuro_pool_free(block));
    size_t before = stats_of(pool).committed_bytes;
    CHECK_OK(neuro_pool_trim(pool, 0, &given_back));
    CHECK(given_back > 0);
    CHECK(stats_of(pool).committed_bytes == before - given_back);
    CHECK_OK(neuro_pool_trim(pool, 0, NULL));
    CHECK_OK(neuro_trim(0, NULL));
    CHECK_OK(neuro_pool_release(pool));
}

static void null_is_the_default_pool(void) {
    neuro_pool_t *pool;
    void *block;
    CHECK_OK(neuro_pool_default(&pool));
    size_t before = stats_of(pool).live_blocks;
    CHECK_OK(neuro_pool_allocate(NULL, 100, 0, &block));
    CHECK(stats_of(pool).live_blocks == before + 1);
    CHECK(stats_of(NULL).live_blocks == before + 1);
    CHECK_OK(neuro_pool_free(block));
    CHECK_OK(neuro_pool_release(pool));
}

static void structs_of_other_versions_are_understood(void) {
    /* An older program knows only the first three fields, and nothing behind them is written. */
    neuro_pool_stats_t old = {.struct_size = 3 * sizeof(size_t), .live_bytes = 12345};
    CHECK_OK(neuro_pool_get_stats(NULL, &old));
    CHECK(old.alignment == 64 && old.live_bytes == 12345);
    /* A newer one gets zeros for what this library does not know. */
    struct {
        neuro_pool_stats_t known;
        size_t unknown;
    } new_stats = {.known = {.struct_size = sizeof new_stats}, .unknown = 5};
    CHECK_OK(neuro_pool_get_stats(NULL, &new_stats.known));
    CHECK(new_stats.known.alignment == 64 && new_stats.unknown == 0);

    neuro_pool_t *pool;
    struct {
        neuro_pool_options_t known;
        size_t unknown;
    } new_options = {.known = {.struct_size = sizeof new_options, .alignment = 128}};
    CHECK_OK(neuro_pool_create(&new_options.known, &pool));
    CHECK(stats_of(pool).alignment == 128);
    CHECK_OK(neuro_pool_release(pool));
    new_options.unknown = 1;
    CHECK_FAILS(neuro_pool_create(&new_options.known, &pool), NEURO_INVALID_ARGUMENT, "this library knows none there");
    CHECK(pool == NULL);
}

int main(void) {
    RUN(versions_agree);
    RUN(dtypes_have_names_and_sizes);
    RUN(blocks_are_aligned_and_counted);
    RUN(zeroed_blocks_are_zero_where_others_were);
    RUN(reallocation_keeps_the_contents);
    RUN(blocks_outlive_the_handle_of_their_pool);
    RUN(trim_gives_memory_back);
    RUN(null_is_the_default_pool);
    RUN(structs_of_other_versions_are_understood);
    return DONE();
}
