/* Devices: names, what there is, pools and tensors on them, and that the processor keeps its hands off their memory. Without a Vulkan
 * device the parts that need one are SKIPPED, unless NEURO_REQUIRE_VULKAN is set. */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

static const neuro_device_t cpu = {NEURO_DEVICE_CPU, 0};
static const neuro_device_t gpu = {NEURO_DEVICE_VULKAN, 0};
static const char *program;

static int slow(void) {
    return getenv("NM_UNDER_VALGRIND") != NULL;
}

static int same(neuro_device_t a, neuro_device_t b) {
    return a.type == b.type && a.id == b.id;
}

/* Bytes that no mistake by a whole number of anything leaves as they were. */
static unsigned char *pattern(size_t bytes, unsigned seed) {
    unsigned char *all = malloc(bytes + 1);
    for (size_t i = 0; all != NULL && i < bytes; i++) {
        all[i] = (unsigned char)(i * 31 + i / 251 + seed);
    }
    return all;
}

static neuro_tensor_t *filled(int64_t rows, int64_t columns) {
    neuro_tensor_t *tensor = NULL;
    if (neuro_tensor_empty(NULL, NEURO_DTYPE_INT32, 2, (int64_t[]){rows, columns}, &tensor) == NEURO_OK) {
        int32_t *values = neuro_tensor_get_data(tensor);
        for (int64_t i = 0; i < rows * columns; i++) {
            values[i] = (int32_t)(i * 7 - 3);
        }
    }
    return tensor;
}

static void names_and_numbers(void) {
    const struct { const char *name, *given; neuro_device_t device; } known[] = {
        {"cpu", "cpu", {1, 0}}, {"cuda:0", "cuda", {2, 0}}, {"vulkan:3", "vulkan:3", {7, 3}}, {"vulkan:2147483647", "vulkan:2147483647", {7, INT32_MAX}},
    };
    char name[32];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        neuro_device_t device;
        CHECK_OK(neuro_device_from_name(known[i].given, &device));
        CHECK(same(device, known[i].device));
        CHECK(neuro_device_name(device, name, sizeof name) == strlen(known[i].name) && strcmp(name, known[i].name) == 0);
    }
    CHECK(neuro_device_name((neuro_device_t){0, 0}, name, sizeof name) == 3 && strcmp(name, "cpu") == 0);
    CHECK(neuro_device_name(gpu, NULL, 0) == 8);
    CHECK(neuro_device_name(gpu, name, 4) == 8 && strcmp(name, "vul") == 0);
    const neuro_device_t wrong[] = {{1, 1}, {0, 1}, {7, -1}, {2, INT32_MIN}, {3, 0}, {-1, 0}, {8, 0}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        neuro_clear_error();
        strcpy(name, "old");
        CHECK(neuro_device_name(wrong[i], name, sizeof name) == 0 && name[0] == '\0');
        CHECK(neuro_last_status() == NEURO_INVALID_ARGUMENT);
    }
    neuro_clear_error();
    CHECK(neuro_device_name(gpu, NULL, 5) == 0 && neuro_last_status() == NEURO_INVALID_ARGUMENT);
    neuro_device_t device = gpu;
    const char *unknown[] = {"", "gpu", "cpu:1", "vulkan:", "vulkan:-1", "vulkan:0 ", "CPU", "vulkan:2147483648", "\xff"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        CHECK_FAILS(neuro_device_from_name(unknown[i], &device), NEURO_INVALID_ARGUMENT, "");
        CHECK(device.type == 0 && device.id == 0);
    }
    CHECK_FAILS(neuro_device_from_name(NULL, &device), NEURO_INVALID_ARGUMENT, "name is NULL");
    CHECK_FAILS(neuro_device_from_name("cpu", NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
}

static void what_there_is_and_what_is_missing(void) {
    size_t count = neuro_device_get_count();
    int32_t cards = 0, others = 0;
    struct { neuro_device_info_t info; uint64_t newer[2]; } longer;
    for (size_t i = 0; i < count; i++) {
        neuro_device_info_t info = {.struct_size = sizeof info};
        CHECK_OK(neuro_device_get_info(i, &info));
        int is_cuda = info.device.type == NEURO_DEVICE_CUDA;
        CHECK(info.struct_size == sizeof info && (is_cuda || info.device.type == NEURO_DEVICE_VULKAN));
        CHECK(info.device.id == (is_cuda ? cards++ : others++));
        CHECK(info.name[0] != '\0' && info.kind[0] != '\0' && strncmp(info.api, is_cuda ? "compute capability" : "Vulkan 1.", is_cuda ? 18 : 9) == 0);
        CHECK(info.memory_bytes > 0 && info.max_allocation_bytes > 0 && info.max_allocations > 0);
        neuro_device_info_t part;
        memset(&part, 0x5a, sizeof part);
        part.struct_size = offsetof(neuro_device_info_t, kind);
        CHECK_OK(neuro_device_get_info(i, &part));
        CHECK(strcmp(part.name, info.name) == 0 && part.kind[0] == 0x5a && part.memory_bytes == UINT64_C(0x5a5a5a5a5a5a5a5a));
        memset(&longer, 0x5a, sizeof longer);
        longer.info.struct_size = sizeof longer;
        CHECK_OK(neuro_device_get_info(i, &longer.info));
        CHECK(longer.newer[0] == 0 && longer.newer[1] == 0 && longer.info.memory_bytes == info.memory_bytes);
    }
    neuro_device_info_t info;
    memset(&info, 0x5a, sizeof info);
    info.struct_size = sizeof info;
    CHECK_FAILS(neuro_device_get_info(count, &info), NEURO_OUT_OF_RANGE, "out of range");
    CHECK(info.name[0] == '\0' && info.memory_bytes == 0);
    CHECK_FAILS(neuro_device_get_info(SIZE_MAX, &info), NEURO_OUT_OF_RANGE, "out of range");
    CHECK_FAILS(neuro_device_get_info(0, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    info.struct_size = 0;
    CHECK_FAILS(neuro_device_get_info(0, &info), NEURO_INVALID_ARGUMENT, "struct_size");

    char words[512], cut[8];
    const int32_t types[] = {NEURO_DEVICE_CUDA, NEURO_DEVICE_VULKAN};
    for (int i = 0; i < 2; i++) {
        size_t length = neuro_device_get_missing(types[i], words, sizeof words);
        CHECK(first_device(types[i], &info) ? length == 0 : length > 8);
        CHECK(length < sizeof words && strlen(words) == length);
        CHECK(neuro_device_get_missing(types[i], NULL, 0) == length);
        CHECK(neuro_device_get_missing(types[i], cut, sizeof cut) == length && strlen(cut) == (length > 7 ? 7 : 0));
        CHECK(strncmp(cut, words, 7) == 0);
    }
    CHECK(neuro_device_get_missing(NEURO_DEVICE_CPU, words, sizeof words) == 0 && words[0] == '\0');
    neuro_clear_error();
    CHECK(neuro_device_get_missing(99, words, sizeof words) == 0 && neuro_last_status() == NEURO_INVALID_ARGUMENT);
    neuro_clear_error();
    CHECK(neuro_device_get_missing(NEURO_DEVICE_CUDA, NULL, 5) == 0 && neuro_last_status() == NEURO_INVALID_ARGUMENT);
}

static void no_call(void *context, const neuro_pool_stats_t *stats) {
    (void)context;
    (void)stats;
}

static void wrong_devices_are_refused(void) {
    neuro_tensor_t *tensor, *out;
    neuro_pool_t *pool;
    CHECK_OK(neuro_tensor_zeros(NULL, NEURO_DTYPE_UINT8, 1, (int64_t[]){3}, &tensor));
    const struct { neuro_device_t device; neuro_status_t status; const char *words; } wrong[] = {
        {{NEURO_DEVICE_VULKAN, 99}, NEURO_UNAVAILABLE, "vulkan:99"}, {{NEURO_DEVICE_CUDA, 99}, NEURO_UNAVAILABLE, "cuda:99"},
        {{NEURO_DEVICE_VULKAN, -1}, NEURO_INVALID_ARGUMENT, "id -1 is negative"}, {{1, 2}, NEURO_INVALID_ARGUMENT, "its id is 0"},
        {{42, 0}, NEURO_INVALID_ARGUMENT, "type 42 is unknown"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        pool = (neuro_pool_t *)&pool;
        out = (neuro_tensor_t *)&out;
        neuro_pool_options_t options = {.struct_size = sizeof options, .limit_bytes = 1024, .device = wrong[i].device};
        CHECK_FAILS(neuro_pool_create(&options, &pool), wrong[i].status, wrong[i].words);
        CHECK(pool == NULL);
        CHECK_FAILS(neuro_pool_of_device(wrong[i].device, &pool), wrong[i].status, wrong[i].words);
        CHECK_FAILS(neuro_tensor_to_device(tensor, wrong[i].device, &out), wrong[i].status, wrong[i].words);
        CHECK(out == NULL);
    }
#define REFUSED(name, ...)                                                                                        \
    do {                                                                                                          \
        neuro_pool_options_t options = {.struct_size = sizeof options, .device = {NEURO_DEVICE_VULKAN, 0}, __VA_ARGS__}; \
        CHECK_FAILS(neuro_pool_create(&options, &pool), NEURO_INVALID_ARGUMENT, name " is set");                  \
    } while (0)
    REFUSED("alignment", .alignment = 64);
    REFUSED("flags", .flags = NEURO_POOL_PREFAULT);
    REFUSED("decay_milliseconds", .decay_milliseconds = 5);
    REFUSED("keep_bytes", .keep_bytes = 5);
    REFUSED("soft_limit_bytes", .soft_limit_bytes = 5);
    REFUSED("soft_limit_callback", .soft_limit_callback = no_call);
    REFUSED("soft_limit_context", .soft_limit_context = &pool);
    CHECK_FAILS(neuro_pool_of_device(cpu, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_tensor_to_device(tensor, cpu, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_tensor_to_pool(tensor, NULL, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_tensor_to_device(NULL, cpu, &out), NEURO_INVALID_ARGUMENT, "is NULL");
    CHECK_FAILS(neuro_tensor_to_pool(tensor, (neuro_pool_t *)tensor, &out), NEURO_INVALID_ARGUMENT, "no live neuro_pool_t");
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_FAILS(neuro_tensor_to_device(tensor, cpu, &out), NEURO_INVALID_ARGUMENT, "no live neuro_tensor_t");
    CHECK_FAILS(neuro_tensor_to_pool(tensor, NULL, &out), NEURO_INVALID_ARGUMENT, "no live neuro_tensor_t");
    neuro_clear_error();
    CHECK(neuro_tensor_get_device(tensor).type == 0 && neuro_last_status() == NEURO_INVALID_ARGUMENT);
    neuro_clear_error();
    CHECK(neuro_pool_get_device((neuro_pool_t *)tensor).type == 0 && neuro_last_status() == NEURO_INVALID_ARGUMENT);
}

/* The cpu by its number, by zeros, and by an older struct, which has no device. */
static void the_cpu_is_a_device(void) {
    neuro_pool_t *first, *pool;
    neuro_tensor_t *tensor, *shared, *copy;
    CHECK_OK(neuro_pool_of_device((neuro_device_t){0, 0}, &first));
    CHECK(same(neuro_pool_get_device(first), cpu) && same(neuro_pool_get_device(NULL), cpu));
    neuro_pool_options_t options = {.struct_size = offsetof(neuro_pool_options_t, device), .limit_bytes = 4096, .device = {42, 42}};
    CHECK_OK(neuro_pool_create(&options, &pool));
    CHECK_OK(neuro_tensor_zeros(pool, NEURO_DTYPE_UINT8, 1, (int64_t[]){3}, &tensor));
    CHECK(same(neuro_tensor_get_device(tensor), cpu));
    CHECK_OK(neuro_tensor_to_device(tensor, cpu, &shared));
    CHECK(neuro_tensor_use_count(tensor) == 2 && neuro_tensor_get_data(shared) == neuro_tensor_get_data(tensor));
    CHECK_OK(neuro_tensor_to_pool(tensor, first, &copy));
    CHECK(neuro_tensor_use_count(tensor) == 2 && neuro_tensor_get_data(copy) != neuro_tensor_get_data(tensor));
    CHECK_OK(neuro_tensor_release(copy));
    CHECK_OK(neuro_tensor_release(shared));
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_OK(neuro_pool_release(pool));
    CHECK_OK(neuro_pool_release(first));
}

static void there_and_back(void) {
    const size_t lengths[] = {0, 1, 3, 4, 5, 255, 256, 257, 4095, 65537, ((size_t)1 << 20) + 3, ((size_t)40 << 20) + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths - (slow() ? 1 : 0); i++) {
        neuro_tensor_t *here, *there, *back;
        unsigned char *all = pattern(lengths[i], (unsigned)i), *seen = malloc(lengths[i] + 1);
        CHECK(all != NULL && seen != NULL);
        memset(seen, 0, lengths[i] + 1);
        CHECK_OK(neuro_tensor_empty(NULL, NEURO_DTYPE_UINT8, 1, (int64_t[]){(int64_t)lengths[i]}, &here));
        CHECK_OK(neuro_tensor_copy_from_bytes(here, all, lengths[i]));
        CHECK_OK(neuro_tensor_to_device(here, gpu, &there));
        /* What was sent has left the caller's memory. */
        CHECK_OK(neuro_tensor_fill_i64(here, 0));
        CHECK(same(neuro_tensor_get_device(there), gpu) && neuro_tensor_get_nbytes(there) == lengths[i]);
        CHECK_OK(neuro_tensor_to_device(there, cpu, &back));
        CHECK(lengths[i] == 0 || memcmp(neuro_tensor_get_const_data(back), all, lengths[i]) == 0);
        CHECK_OK(neuro_tensor_copy_to_bytes(there, seen, lengths[i]));
        CHECK(memcmp(seen, all, lengths[i]) == 0);
        CHECK_OK(neuro_tensor_release(back));
        CHECK_OK(neuro_tensor_release(there));
        CHECK_OK(neuro_tensor_release(here));
        free(all);
        free(seen);
    }
}

static void views_there_and_back(void) {
    enum { ROWS = 37, COLUMNS = 41 };
    neuro_pool_options_t options = {.struct_size = sizeof options, .limit_bytes = (size_t)1 << 20, .device = gpu};
    neuro_pool_t *pool;
    neuro_tensor_t *here = filled(ROWS, COLUMNS), *there, *turned, *part, *moved, *shared, *flat;
    static int32_t seen[ROWS * COLUMNS];
    CHECK(here != NULL);
    CHECK_OK(neuro_pool_create(&options, &pool));
    CHECK_OK(neuro_tensor_to_device(here, gpu, &there));
    CHECK_OK(neuro_tensor_to_device(there, gpu, &shared));
    CHECK(neuro_tensor_use_count(there) == 2);
    CHECK_OK(neuro_tensor_transpose(there, &turned));
    CHECK(same(neuro_tensor_get_device(turned), gpu) && !neuro_tensor_is_contiguous(turned));
    CHECK_OK(neuro_tensor_copy_to_bytes(turned, seen, sizeof seen));
    for (int i = 0; i < COLUMNS * ROWS; i++) {
        CHECK(seen[i] == (i % ROWS * COLUMNS + i / ROWS) * 7 - 3);
    }
    /* Every third row from the second on, then from the last column down: (1 + 3 i, 40 - j). */
    CHECK_OK(neuro_tensor_slice(there, 0, 1, ROWS, 3, &part));
    CHECK_OK(neuro_tensor_release(turned));
    CHECK_OK(neuro_tensor_slice(part, 1, COLUMNS - 1, -1, -1, &turned));
    CHECK_OK(neuro_tensor_to_pool(turned, pool, &moved));
    CHECK(same(neuro_tensor_get_device(moved), gpu) && neuro_tensor_is_contiguous(moved));
    CHECK_OK(neuro_tensor_copy_to_bytes(moved, seen, neuro_tensor_get_nbytes(moved)));
    for (int i = 0; i < 12 * COLUMNS; i++) {
        CHECK(seen[i] == ((1 + i / COLUMNS * 3) * COLUMNS + 40 - i % COLUMNS) * 7 - 3);
    }
    /* A shape that strides can say needs no copy. */
    CHECK_OK(neuro_tensor_reshape(there, 1, (int64_t[]){ROWS * COLUMNS}, &flat));
    CHECK(neuro_tensor_use_count(there) == 5);
    CHECK(neuro_tensor_get_alignment(flat) >= 256);
    CHECK_OK(neuro_tensor_release(flat));
    CHECK_OK(neuro_tensor_slice(there, 0, 1, 2, 1, &flat));
    CHECK(neuro_tensor_get_alignment(flat) == 4);
    neuro_tensor_t *all[] = {here, there, turned, part, moved, shared, flat};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        CHECK_OK(neuro_tensor_release(all[i]));
    }
    CHECK_OK(neuro_pool_release(pool));
}

static void the_processor_keeps_off(void) {
    neuro_tensor_t *here = filled(4, 6), *there, *turned, *out;
    neuro_pool_t *pool;
    const void *address;
    int32_t bytes[24] = {0};
    CHECK(here != NULL);
    CHECK_OK(neuro_pool_of_device(gpu, &pool));
    CHECK_OK(neuro_tensor_to_pool(here, pool, &there));
    CHECK_OK(neuro_tensor_transpose(there, &turned));
#define NO_ADDRESS(call)                                                                                  \
    do {                                                                                                  \
        neuro_clear_error();                                                                              \
        CHECK((call) == NULL && neuro_last_status() == NEURO_UNAVAILABLE);                                \
        CHECK(strstr(neuro_last_error(), "copy the tensor to the cpu first") != NULL);                    \
    } while (0)
    NO_ADDRESS(neuro_tensor_get_data(there));
    NO_ADDRESS(neuro_tensor_get_const_data(there));
    const char *words = "on vulkan:0 is not available";
    CHECK_FAILS(neuro_tensor_at(there, 2, (int64_t[]){0, 0}, (void **)&address), NEURO_UNAVAILABLE, words);
    CHECK(address == NULL);
    CHECK_FAILS(neuro_tensor_const_at(there, 2, (int64_t[]){3, 5}, &address), NEURO_UNAVAILABLE, words);
    CHECK(address == NULL);
    CHECK_FAILS(neuro_tensor_copy_from(there, here), NEURO_UNAVAILABLE, words);
    CHECK_FAILS(neuro_tensor_copy_from(here, there), NEURO_UNAVAILABLE, words);
    CHECK_FAILS(neuro_tensor_copy_from_bytes(there, bytes, sizeof bytes), NEURO_UNAVAILABLE, words);
    CHECK_FAILS(neuro_tensor_copy_to_bytes(there, bytes, 5), NEURO_BAD_SHAPE, "5 B given for the 96 B");
    CHECK_FAILS(neuro_tensor_copy_to_bytes(there, NULL, sizeof bytes), NEURO_INVALID_ARGUMENT, "destination is NULL");
    CHECK_FAILS(neuro_tensor_fill_f64(there, 1.5), NEURO_UNAVAILABLE, words);
    CHECK_FAILS(neuro_tensor_fill_i64(there, 1), NEURO_UNAVAILABLE, words);
    CHECK_FAILS(neuro_tensor_copy(there, NULL, &out), NEURO_UNAVAILABLE, words);
    CHECK_FAILS(neuro_tensor_contiguous(turned, &out), NEURO_UNAVAILABLE, words);
    CHECK_FAILS(neuro_tensor_reshape(turned, 1, (int64_t[]){24}, &out), NEURO_UNAVAILABLE, words);
    neuro_safetensors_t *file;
    CHECK_FAILS(neuro_safetensors_save("device.safetensors", (const char *[]){"t"}, &there, 1), NEURO_UNAVAILABLE, words);
    CHECK(access("device.safetensors", F_OK) != 0);
    CHECK_OK(neuro_safetensors_save("device.safetensors", (const char *[]){"t"}, &here, 1));
    CHECK_FAILS(neuro_safetensors_load("device.safetensors", pool, &file), NEURO_UNAVAILABLE, "vulkan:0");
    CHECK(file == NULL && unlink("device.safetensors") == 0);
    void *block;
    CHECK_FAILS(neuro_pool_allocate(pool, 64, 0, &block), NEURO_UNAVAILABLE, "vulkan:0");
    CHECK(block == NULL);
    CHECK_FAILS(neuro_pool_allocate_zeroed(pool, 0, 64, &block), NEURO_UNAVAILABLE, "vulkan:0");
    /* Nothing of all that has changed it. */
    CHECK_OK(neuro_tensor_copy_to_bytes(there, bytes, sizeof bytes));
    CHECK(memcmp(bytes, neuro_tensor_get_const_data(here), sizeof bytes) == 0);
    CHECK_OK(neuro_tensor_release(turned));
    CHECK_OK(neuro_tensor_release(there));
    CHECK_OK(neuro_tensor_release(here));
    CHECK_OK(neuro_pool_release(pool));
}

static void pools_of_a_device(void) {
    neuro_pool_options_t options = {.struct_size = sizeof options, .limit_bytes = (size_t)1 << 20, .device = gpu};
    neuro_pool_stats_t stats = {.struct_size = sizeof stats};
    neuro_device_info_t info = {.struct_size = sizeof info};
    neuro_pool_t *pool, *whole;
    neuro_tensor_t *tensor, *none;
    unsigned char bytes[1000];
    memset(bytes, 0xff, sizeof bytes);
    CHECK_OK(neuro_pool_create(&options, &pool));
    CHECK(same(neuro_pool_get_device(pool), gpu));
    CHECK_OK(neuro_tensor_zeros(pool, NEURO_DTYPE_UINT8, 1, (int64_t[]){sizeof bytes}, &tensor));
    CHECK_OK(neuro_pool_get_stats(pool, &stats));
    CHECK(stats.limit_bytes == options.limit_bytes && stats.live_blocks == 1 && stats.live_bytes == 1024);
    CHECK_FAILS(neuro_tensor_empty(pool, NEURO_DTYPE_UINT8, 1, (int64_t[]){1 << 21}, &none), NEURO_OUT_OF_MEMORY, "vulkan:0");
    CHECK_OK(neuro_tensor_copy_to_bytes(tensor, bytes, sizeof bytes));
    for (size_t i = 0; i < sizeof bytes; i++) {
        CHECK(bytes[i] == 0);
    }
    /* The tensor outlives the handle of its pool. */
    CHECK_OK(neuro_pool_retain(pool));
    CHECK_OK(neuro_pool_release(pool));
    CHECK_OK(neuro_pool_release(pool));
    CHECK_OK(neuro_tensor_copy_to_bytes(tensor, bytes, sizeof bytes));
    CHECK_OK(neuro_tensor_release(tensor));
    /* No limit: the device's memory, and the pool that everybody shares. */
    options.limit_bytes = 0;
    CHECK_OK(neuro_pool_create(&options, &whole));
    CHECK_OK(neuro_pool_get_stats(whole, &stats));
    CHECK(first_device(NEURO_DEVICE_VULKAN, &info));
    CHECK(stats.limit_bytes > (size_t)1 << 20 && stats.limit_bytes <= info.memory_bytes);
    CHECK_OK(neuro_pool_release(whole));
}

static neuro_pool_t *shared_pool;
/* NULL, or what went wrong. */
static void *go_and_come(void *number) {
    unsigned seed = *(unsigned *)number;
    for (unsigned round = 0; round < (slow() ? 3 : 40); round++) {
        size_t bytes = 1 + (seed * 7919 + round * 104729) % 200000;
        unsigned char *all = pattern(bytes, seed * 40 + round), *seen = malloc(bytes);
        neuro_tensor_t *here, *there, *copy;
        if (all == NULL || seen == NULL || neuro_tensor_empty(NULL, NEURO_DTYPE_UINT8, 1, (int64_t[]){(int64_t)bytes}, &here) != NEURO_OK
            || neuro_tensor_copy_from_bytes(here, all, bytes) != NEURO_OK || neuro_tensor_to_device(here, gpu, &there) != NEURO_OK
            || neuro_tensor_release(here) != NEURO_OK || neuro_tensor_to_pool(there, shared_pool, &copy) != NEURO_OK
            || neuro_tensor_release(there) != NEURO_OK || neuro_tensor_copy_to_bytes(copy, seen, bytes) != NEURO_OK
            || neuro_tensor_release(copy) != NEURO_OK) {
            return "a call failed";
        }
        int wrong = memcmp(all, seen, bytes);
        free(all);
        free(seen);
        if (wrong) {
            return "the bytes are others";
        }
    }
    return NULL;
}

static void eight_threads(void) {
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    unsigned numbers[THREADS];
    neuro_pool_stats_t stats = {.struct_size = sizeof stats};
    neuro_pool_options_t options = {.struct_size = sizeof options, .limit_bytes = (size_t)16 << 20, .device = gpu};
    CHECK_OK(neuro_pool_create(&options, &shared_pool));
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, go_and_come, &numbers[i]) == 0);
    }
    const char *wrong = NULL;
    for (unsigned i = 0; i < THREADS; i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0);
        wrong = result != NULL ? result : wrong;
    }
    if (wrong != NULL) {
        printf("  %s\n", wrong);
    }
    CHECK(wrong == NULL);
    CHECK_OK(neuro_pool_get_stats(shared_pool, &stats));
    CHECK(stats.live_blocks == 0);
    CHECK_OK(neuro_pool_release(shared_pool));
}

/* 0, or the number of the step that failed. */
static int child(neuro_pool_t *pool, neuro_tensor_t *there, neuro_tensor_t *here) {
    neuro_tensor_t *out, *view;
    unsigned char byte;
    if (neuro_tensor_to_device(there, cpu, &out) != NEURO_DEVICE_LOST || strstr(neuro_last_error(), "forked") == NULL) {
        return 1;
    }
    if (neuro_tensor_to_device(here, gpu, &out) != NEURO_DEVICE_LOST || neuro_tensor_to_pool(here, pool, &out) != NEURO_DEVICE_LOST
        || neuro_tensor_zeros(pool, NEURO_DTYPE_UINT8, 1, (int64_t[]){1}, &out) != NEURO_DEVICE_LOST
        || neuro_tensor_copy_to_bytes(there, &byte, 1) != NEURO_BAD_SHAPE) {
        return 2;
    }
    if (neuro_device_get_count() != 0 || neuro_device_get_missing(NEURO_DEVICE_VULKAN, NULL, 0) == 0) {
        return 3;
    }
    if (neuro_tensor_transpose(there, &view) != NEURO_OK || neuro_tensor_release(view) != NEURO_OK
        || neuro_tensor_release(there) != NEURO_OK || neuro_pool_release(pool) != NEURO_OK) {
        return 4;
    }
    if (neuro_tensor_copy(here, NULL, &out) != NEURO_OK || neuro_tensor_release(out) != NEURO_OK) {
        return 5;
    }
    return neuro_tensor_release(there) == NEURO_INVALID_FREE ? 0 : 6;
}

static void a_forked_child_has_no_devices(void) {
    neuro_pool_options_t options = {.struct_size = sizeof options, .limit_bytes = (size_t)1 << 20, .device = gpu};
    neuro_pool_t *pool;
    neuro_tensor_t *here = filled(30, 20), *there, *back;
    CHECK(here != NULL);
    CHECK_OK(neuro_pool_create(&options, &pool));
    CHECK_OK(neuro_tensor_to_pool(here, pool, &there));
    pid_t process = fork();
    if (process == 0) {
        alarm(20);
        int step = child(pool, there, here);
        /* Through everything that a process runs at its end, which leaves the parent's devices alone. AddressSanitizer would look
         * for leaks there, and take what threads had that are not in the child for some. */
        getenv("NM_UNDER_ASAN") != NULL ? _exit(step) : exit(step);
    }
    int status;
    CHECK(process > 0 && waitpid(process, &status, 0) == process);
    if (status != 0) {
        printf("  the child ended with %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    }
    CHECK(status == 0);
    CHECK_OK(neuro_tensor_to_device(there, cpu, &back));
    CHECK(memcmp(neuro_tensor_get_const_data(back), neuro_tensor_get_const_data(here), 30 * 20 * 4) == 0);
    CHECK_OK(neuro_tensor_release(back));
    CHECK_OK(neuro_tensor_release(there));
    CHECK_OK(neuro_tensor_release(here));
    CHECK_OK(neuro_pool_release(pool));
}

/* A process that ends with live pools, tensors and work under way. */
static int leave_everything(void) {
    neuro_pool_options_t options = {.struct_size = sizeof options, .limit_bytes = (size_t)32 << 20, .device = gpu};
    neuro_pool_t *pool;
    neuro_tensor_t *here = filled(1000, 1000), *there, *copy;
    return here != NULL && neuro_pool_create(&options, &pool) == NEURO_OK && neuro_tensor_to_pool(here, pool, &there) == NEURO_OK
                   && neuro_tensor_to_device(here, gpu, &copy) == NEURO_OK
               ? 0
               : 1;
}

static void a_process_ends_with_live_tensors(void) {
    for (int i = 0; i < 3; i++) {
        pid_t process = fork();
        if (process == 0) {
            alarm(60);
            execl(program, program, "leave", (char *)NULL);
            _exit(127);
        }
        int status;
        CHECK(process > 0 && waitpid(process, &status, 0) == process);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

int main(int argc, char **argv) {
    program = argv[0];
    if (argc > 1) {
        return leave_everything();
    }
    RUN(names_and_numbers);
    RUN(what_there_is_and_what_is_missing);
    RUN(wrong_devices_are_refused);
    RUN(the_cpu_is_a_device);
    if (!has_vulkan("tensors on a Vulkan device")) {
        return DONE();
    }
    RUN(there_and_back);
    RUN(views_there_and_back);
    RUN(the_processor_keeps_off);
    RUN(pools_of_a_device);
    RUN(eight_threads);
    RUN(a_forked_child_has_no_devices);
    RUN(a_process_ends_with_live_tensors);
    return DONE();
}
