/* Wrong calls: each gives a status and a message, makes nothing, and leaves nothing behind. DLPack's and safetensors' own
 * are in their tests. */
#include "check.h"

#define SHAPE(...) (sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__}

static neuro_tensor_t *floats(size_t ndim, const int64_t *shape) {
    neuro_tensor_t *tensor = NULL;
    neuro_tensor_zeros(NULL, NEURO_DTYPE_FLOAT32, ndim, shape, &tensor);
    return tensor;
}

static void null_outputs(void) {
    neuro_tensor_t *tensor = floats(SHAPE(2));
    CHECK_FAILS(neuro_pool_create(NULL, NULL), NEURO_INVALID_ARGUMENT, "neuro_pool_create: out is NULL");
    CHECK_FAILS(neuro_pool_default(NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_pool_allocate(NULL, 8, 0, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_pool_allocate_zeroed(NULL, 8, 0, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_pool_get_stats(NULL, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_get_stats(NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_dtype_from_name("float32", NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_tensor_empty(NULL, NEURO_DTYPE_INT8, SHAPE(1), NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_tensor_create(NULL, NEURO_DTYPE_INT8, SHAPE(1), NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_tensor_slice(tensor, 0, 0, 1, 1, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_tensor_copy(tensor, NULL, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_tensor_at(tensor, SHAPE(0), NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_OK(neuro_tensor_release(tensor));
}

/* Every call that takes a tensor, with `bad` in its place. */
static void every_call_refuses(neuro_tensor_t *bad, const char *words) {
    neuro_tensor_t *good = floats(SHAPE(2)), *out = good;
    void *data = &out;
    const void *const_data = &out;
    CHECK_FAILS(neuro_tensor_retain(bad), NEURO_INVALID_ARGUMENT, words);
    CHECK_FAILS(neuro_tensor_at(bad, SHAPE(0), &data), NEURO_INVALID_ARGUMENT, words);
    CHECK_FAILS(neuro_tensor_const_at(bad, SHAPE(0), &const_data), NEURO_INVALID_ARGUMENT, words);
    CHECK(data == NULL && const_data == NULL);
    CHECK_FAILS(neuro_tensor_slice(bad, 0, 0, 1, 1, &out), NEURO_INVALID_ARGUMENT, words);
    CHECK(out == NULL);
    CHECK_FAILS(neuro_tensor_select(bad, 0, 0, &out), NEURO_INVALID_ARGUMENT, words);
    CHECK_FAILS(neuro_tensor_reshape(bad, SHAPE(2), &out), NEURO_INVALID_ARGUMENT, words);
    CHECK_FAILS(neuro_tensor_transpose(bad, &out), NEURO_INVALID_ARGUMENT, words);
    CHECK_FAILS(neuro_tensor_permute(bad, 1, (size_t[]){0}, &out), NEURO_INVALID_ARGUMENT, words);
    CHECK_FAILS(neuro_tensor_contiguous(bad, &out), NEURO_INVALID_ARGUMENT, words);
    CHECK_FAILS(neuro_tensor_copy(bad, NULL, &out), NEURO_INVALID_ARGUMENT, words);
    CHECK_FAILS(neuro_tensor_copy_from(bad, good), NEURO_INVALID_ARGUMENT, words);
    CHECK_FAILS(neuro_tensor_copy_from(good, bad), NEURO_INVALID_ARGUMENT, words);
    CHECK_FAILS(neuro_tensor_copy_from_bytes(bad, &out, 8), NEURO_INVALID_ARGUMENT, words);
    CHECK_FAILS(neuro_tensor_copy_to_bytes(bad, &data, 8), NEURO_INVALID_ARGUMENT, words);
    CHECK_FAILS(neuro_tensor_fill_f64(bad, 1), NEURO_INVALID_ARGUMENT, words);
    CHECK_FAILS(neuro_tensor_fill_i64(bad, 1), NEURO_INVALID_ARGUMENT, words);
#define GETTER(call, neutral)                                                               \
    neuro_clear_error();                                                                    \
    CHECK((call) == (neutral) && neuro_last_status() == NEURO_INVALID_ARGUMENT);            \
    CHECK(strstr(neuro_last_error(), words) != NULL)
    GETTER(neuro_tensor_refcount(bad), 0);
    GETTER(neuro_tensor_use_count(bad), 0);
    GETTER(neuro_tensor_get_ndim(bad), 0);
    GETTER(neuro_tensor_get_shape(bad), NULL);
    GETTER(neuro_tensor_get_strides(bad), NULL);
    GETTER(neuro_tensor_get_dtype(bad), 0);
    GETTER(neuro_tensor_get_numel(bad), 0);
    GETTER(neuro_tensor_get_nbytes(bad), 0);
    GETTER(neuro_tensor_get_alignment(bad), 0);
    GETTER(neuro_tensor_get_data(bad), NULL);
    GETTER(neuro_tensor_get_const_data(bad), NULL);
    GETTER(neuro_tensor_is_contiguous(bad), false);
    GETTER(neuro_tensor_is_readonly(bad), false);
    CHECK_OK(neuro_tensor_release(good));
}

static void null_handles(void) {
    every_call_refuses(NULL, "the neuro_tensor_t is NULL");
    CHECK_FAILS(neuro_pool_retain(NULL), NEURO_INVALID_ARGUMENT, "the neuro_pool_t is NULL");
}

static void released_and_foreign_handles(void) {
    neuro_tensor_t *released = floats(SHAPE(2));
    neuro_pool_t *pool;
    int on_the_stack = 0;
    CHECK_OK(neuro_tensor_release(released));
    every_call_refuses(released, "no live neuro_tensor_t");
    every_call_refuses((neuro_tensor_t *)&on_the_stack, "no live neuro_tensor_t");
    every_call_refuses((neuro_tensor_t *)(uintptr_t)1, "no live neuro_tensor_t");
    every_call_refuses((neuro_tensor_t *)UINTPTR_MAX, "no live neuro_tensor_t");
    CHECK_OK(neuro_pool_create(NULL, &pool));
    every_call_refuses((neuro_tensor_t *)pool, "no live neuro_tensor_t");
    CHECK_OK(neuro_pool_release(pool));
}

static void a_release_after_the_last_release(void) {
    neuro_tensor_t *tensor = floats(SHAPE(2)), *next;
    neuro_pool_t *pool;
    void *block = &pool;
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_FAILS(neuro_tensor_release(tensor), NEURO_INVALID_FREE, "neuro_tensor_release: 0x");
    /* The place is used again, and the old handle still does no harm. */
    for (int i = 0; i < 1000; i++) {
        next = floats(SHAPE(2));
        CHECK(next != tensor);
        CHECK_FAILS(neuro_tensor_release(tensor), NEURO_INVALID_FREE, "no live neuro_tensor_t");
        CHECK_OK(neuro_tensor_release(next));
    }
    CHECK_OK(neuro_pool_create(NULL, &pool));
    CHECK_OK(neuro_pool_release(pool));
    CHECK_FAILS(neuro_pool_release(pool), NEURO_INVALID_FREE, "no live neuro_pool_t");
    CHECK_FAILS(neuro_pool_allocate(pool, 8, 0, &block), NEURO_INVALID_ARGUMENT, "no live neuro_pool_t");
    CHECK(block == NULL);
    CHECK_FAILS(neuro_pool_trim(pool, 0, NULL), NEURO_INVALID_ARGUMENT, "no live neuro_pool_t");
    CHECK_FAILS(neuro_pool_reset_peak(pool), NEURO_INVALID_ARGUMENT, "no live neuro_pool_t");
}

static void frees_of_what_is_no_block(void) {
    void *block, *other = &other;
    int on_the_stack = 0;
    CHECK_OK(neuro_pool_allocate(NULL, 1000, 0, &block));
    CHECK_FAILS(neuro_pool_free((char *)block + 64), NEURO_INVALID_FREE, "nothing was changed");
    CHECK_FAILS(neuro_pool_free((char *)block + 1), NEURO_INVALID_FREE, "nothing was changed");
    CHECK_FAILS(neuro_pool_free(&on_the_stack), NEURO_INVALID_FREE, "nothing was changed");
    CHECK_FAILS(neuro_pool_free((void *)UINTPTR_MAX), NEURO_INVALID_FREE, "nothing was changed");
    CHECK_FAILS(neuro_pool_reallocate(&on_the_stack, 10, 0, &other), NEURO_INVALID_FREE, "nothing was changed");
    CHECK(other == NULL);
    CHECK_FAILS(neuro_pool_reallocate(NULL, 10, 0, &other), NEURO_INVALID_ARGUMENT, "block is NULL");
    CHECK_OK(neuro_pool_free(block));
    CHECK_FAILS(neuro_pool_free(block), NEURO_INVALID_FREE, "nothing was changed");
}

static void impossible_shapes(void) {
    neuro_tensor_t *out = (neuro_tensor_t *)&out;
    int64_t ones[65];
    for (int i = 0; i < 65; i++) {
        ones[i] = 1;
    }
#define REFUSED(status, words, ...)                                                          \
    CHECK_FAILS(neuro_tensor_empty(NULL, NEURO_DTYPE_FLOAT64, __VA_ARGS__, &out), status, words); \
    CHECK(out == NULL)
    REFUSED(NEURO_BAD_SHAPE, "[2, -3] has a negative length", SHAPE(2, -3));
    REFUSED(NEURO_BAD_SHAPE, "negative", SHAPE(INT64_MIN));
    REFUSED(NEURO_BAD_SHAPE, "negative", SHAPE(0, -1));
    REFUSED(NEURO_BAD_SHAPE, "overflows", SHAPE(INT64_MAX));
    REFUSED(NEURO_BAD_SHAPE, "overflows", SHAPE((int64_t)1 << 32, (int64_t)1 << 32));
    REFUSED(NEURO_BAD_SHAPE, "overflows", SHAPE(INT64_MAX, INT64_MAX, 0));
    REFUSED(NEURO_INVALID_ARGUMENT, "65 dimensions", 65, ones);
    REFUSED(NEURO_INVALID_ARGUMENT, "dimensions", SIZE_MAX, ones);
    REFUSED(NEURO_INVALID_ARGUMENT, "shape is NULL", 2, NULL);
    CHECK_OK(neuro_tensor_empty(NULL, NEURO_DTYPE_FLOAT64, 64, ones, &out));
    CHECK_OK(neuro_tensor_release(out));
}

static void unknown_dtypes(void) {
    neuro_tensor_t *out;
    uint32_t dtype = 77;
    uint32_t codes[] = {0, 16, 77, UINT32_MAX};
    for (int i = 0; i < 4; i++) {
        CHECK_FAILS(neuro_tensor_zeros(NULL, codes[i], SHAPE(1), &out), NEURO_BAD_DTYPE, "unknown dtype code");
        neuro_clear_error();
        CHECK(neuro_dtype_size(codes[i]) == 0 && neuro_last_status() == NEURO_BAD_DTYPE);
        neuro_clear_error();
        CHECK(neuro_dtype_name(codes[i]) == NULL && neuro_last_status() == NEURO_BAD_DTYPE);
    }
    CHECK_FAILS(neuro_dtype_from_name("float", &dtype), NEURO_BAD_DTYPE, "unknown dtype \"float\"");
    CHECK(dtype == 0);
    CHECK_FAILS(neuro_dtype_from_name(NULL, &dtype), NEURO_INVALID_ARGUMENT, "name is NULL");
    CHECK_FAILS(neuro_dtype_from_name("\xff\xfe", &dtype), NEURO_INVALID_ARGUMENT, "UTF-8");
}

static void limits(void) {
    neuro_pool_options_t options = {.struct_size = sizeof options, .limit_bytes = 1 << 20};
    neuro_pool_t *pool;
    neuro_tensor_t *tensor, *second;
    void *block = &pool;
    /* Under AddressSanitizer each block has a red zone of 64 bytes, which counts too. */
    int64_t half = (1 << 19) - (getenv("NM_UNDER_ASAN") != NULL ? 64 : 0);
    CHECK_OK(neuro_pool_create(&options, &pool));
    CHECK_OK(neuro_tensor_zeros(pool, NEURO_DTYPE_UINT8, SHAPE(half), &tensor));
    CHECK_FAILS(neuro_tensor_zeros(pool, NEURO_DTYPE_UINT8, SHAPE((1 << 19) + 1), &second), NEURO_OUT_OF_MEMORY,
                "limit 1048576 B");
    CHECK(second == NULL);
    CHECK_FAILS(neuro_pool_allocate(pool, SIZE_MAX, 0, &block), NEURO_OUT_OF_MEMORY, "out of memory");
    CHECK(block == NULL);
    CHECK_FAILS(neuro_pool_allocate(NULL, SIZE_MAX, 0, &block), NEURO_OUT_OF_MEMORY, "out of memory");
    /* All of the limit can be used. */
    CHECK_OK(neuro_tensor_zeros(pool, NEURO_DTYPE_UINT8, SHAPE(half), &second));
    /* A block that cannot grow stays as it was. */
    CHECK_OK(neuro_tensor_release(second));
    CHECK_OK(neuro_pool_allocate(pool, 64, 0, &block));
    memset(block, 3, 64);
    void *grown = &pool;
    CHECK_FAILS(neuro_pool_reallocate(block, 1 << 20, 0, &grown), NEURO_OUT_OF_MEMORY, "out of memory");
    CHECK(grown == NULL && ((char *)block)[63] == 3);
    CHECK_OK(neuro_pool_free(block));
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_OK(neuro_pool_release(pool));
}

static void bad_options(void) {
    neuro_pool_t *pool = NULL;
    neuro_tensor_t *tensor;
    void *block;
    neuro_pool_options_t options = {.struct_size = 0};
    CHECK_FAILS(neuro_pool_create(&options, &pool), NEURO_INVALID_ARGUMENT, "struct_size is 0");
    options.struct_size = SIZE_MAX;
    CHECK_FAILS(neuro_pool_create(&options, &pool), NEURO_INVALID_ARGUMENT, "struct_size is 18446744073709551615");
    neuro_pool_stats_t stats = {.struct_size = 0};
    CHECK_FAILS(neuro_pool_get_stats(NULL, &stats), NEURO_INVALID_ARGUMENT, "struct_size is 0");
    memset(&stats, 7, sizeof stats);
    stats.struct_size = sizeof stats;
    CHECK_FAILS(neuro_pool_get_stats((neuro_pool_t *)&stats, &stats), NEURO_INVALID_ARGUMENT, "no live neuro_pool_t");
    const neuro_pool_stats_t zeros = {.struct_size = sizeof stats};
    CHECK(memcmp(&stats, &zeros, sizeof stats) == 0);

    size_t alignments[] = {3, 65, (size_t)4 << 20, SIZE_MAX};
    for (int i = 0; i < 4; i++) {
        CHECK_FAILS(neuro_pool_allocate(NULL, 8, alignments[i], &block), NEURO_INVALID_ARGUMENT, "alignment");
        /* A pool with options that cannot be met says so when it is first asked for something. */
        options = (neuro_pool_options_t){.struct_size = sizeof options, .alignment = alignments[i]};
        CHECK_OK(neuro_pool_create(&options, &pool));
        CHECK_FAILS(neuro_pool_allocate(pool, 8, 0, &block), NEURO_INVALID_ARGUMENT, "alignment");
        CHECK_OK(neuro_pool_release(pool));
    }
    neuro_tensor_options_t tensor_options = {.struct_size = sizeof tensor_options, .flags = 6};
    CHECK_FAILS(neuro_tensor_create(&tensor_options, NEURO_DTYPE_INT8, SHAPE(1), &tensor), NEURO_INVALID_ARGUMENT,
                "unknown flags 0x6");
    tensor_options = (neuro_tensor_options_t){.struct_size = sizeof tensor_options, .alignment = 100};
    CHECK_FAILS(neuro_tensor_create(&tensor_options, NEURO_DTYPE_INT8, SHAPE(1), &tensor), NEURO_INVALID_ARGUMENT,
                "alignment");
    tensor_options = (neuro_tensor_options_t){.struct_size = sizeof tensor_options, .pool = pool};
    CHECK_FAILS(neuro_tensor_create(&tensor_options, NEURO_DTYPE_INT8, SHAPE(1), &tensor), NEURO_INVALID_ARGUMENT,
                "no live neuro_pool_t");
}

static void ranges_and_axes(void) {
    neuro_tensor_t *tensor = floats(SHAPE(3, 4)), *out;
    void *element;
    CHECK_FAILS(neuro_tensor_slice(tensor, 2, 0, 1, 1, &out), NEURO_OUT_OF_RANGE, "axis 2");
    CHECK_FAILS(neuro_tensor_slice(tensor, SIZE_MAX, 0, 1, 1, &out), NEURO_OUT_OF_RANGE, "axis");
    CHECK_FAILS(neuro_tensor_slice(tensor, 0, 0, 4, 1, &out), NEURO_OUT_OF_RANGE, "end 4");
    CHECK_FAILS(neuro_tensor_slice(tensor, 0, -1, 2, 1, &out), NEURO_OUT_OF_RANGE, "start -1");
    CHECK_FAILS(neuro_tensor_slice(tensor, 0, 0, 2, 0, &out), NEURO_INVALID_ARGUMENT, "step");
    CHECK_FAILS(neuro_tensor_slice(tensor, 0, INT64_MIN, INT64_MAX, INT64_MIN, &out), NEURO_OUT_OF_RANGE, "start");
    CHECK_FAILS(neuro_tensor_select(tensor, 0, 3, &out), NEURO_OUT_OF_RANGE, "index 3");
    CHECK_FAILS(neuro_tensor_select(tensor, 0, -1, &out), NEURO_OUT_OF_RANGE, "index -1");
    CHECK_FAILS(neuro_tensor_reshape(tensor, SHAPE(5, 2), &out), NEURO_BAD_SHAPE, "12");
    CHECK_FAILS(neuro_tensor_reshape(tensor, SHAPE(-1, 2), &out), NEURO_BAD_SHAPE, "negative");
    CHECK_FAILS(neuro_tensor_reshape(tensor, SHAPE(INT64_MAX, 2), &out), NEURO_BAD_SHAPE, "");
    CHECK_FAILS(neuro_tensor_permute(tensor, 2, (size_t[]){0, 0}, &out), NEURO_INVALID_ARGUMENT, "");
    CHECK_FAILS(neuro_tensor_permute(tensor, 1, (size_t[]){0}, &out), NEURO_INVALID_ARGUMENT, "");
    CHECK_FAILS(neuro_tensor_permute(tensor, 2, NULL, &out), NEURO_INVALID_ARGUMENT, "axes is NULL");
    /* A wrong count is found before the numbers are read: there may be none. */
    CHECK_FAILS(neuro_tensor_permute(tensor, 3, NULL, &out), NEURO_INVALID_ARGUMENT, "3 axes for 2 dimensions");
    CHECK_FAILS(neuro_tensor_permute(tensor, (size_t)1 << 40, (size_t[]){0}, &out), NEURO_INVALID_ARGUMENT,
                "axes for 2 dimensions");
    CHECK_FAILS(neuro_tensor_at(tensor, SHAPE(3, 0), &element), NEURO_OUT_OF_RANGE, "index 3");
    CHECK_FAILS(neuro_tensor_at(tensor, SHAPE(0, -1), &element), NEURO_OUT_OF_RANGE, "index -1");
    CHECK_FAILS(neuro_tensor_at(tensor, SHAPE(0), &element), NEURO_INVALID_ARGUMENT, "1 indices for 2 dimensions");
    const void *const_element = &out;
    CHECK_FAILS(neuro_tensor_at(tensor, SHAPE(-1), &element), NEURO_INVALID_ARGUMENT, "1 indices for 2 dimensions");
    CHECK_FAILS(neuro_tensor_at(tensor, 3, NULL, &element), NEURO_INVALID_ARGUMENT, "3 indices for 2 dimensions");
    CHECK_FAILS(neuro_tensor_const_at(tensor, (size_t)1 << 40, (int64_t[]){0}, &const_element), NEURO_INVALID_ARGUMENT,
                "indices for 2 dimensions");
    CHECK(const_element == NULL);
    CHECK_FAILS(neuro_tensor_at(tensor, 2, NULL, &element), NEURO_INVALID_ARGUMENT, "index is NULL");
    CHECK(out == NULL && element == NULL);
    CHECK_OK(neuro_tensor_release(tensor));
}

static void contents_that_do_not_fit(void) {
    neuro_tensor_t *tensor = floats(SHAPE(3)), *bytes, *longer = floats(SHAPE(4));
    float out[4];
    CHECK_OK(neuro_tensor_zeros(NULL, NEURO_DTYPE_UINT8, SHAPE(3), &bytes));
    CHECK_FAILS(neuro_tensor_copy_from(tensor, longer), NEURO_BAD_SHAPE, "[4]");
    CHECK_FAILS(neuro_tensor_copy_from(tensor, bytes), NEURO_BAD_DTYPE, "float32");
    CHECK_FAILS(neuro_tensor_copy_to_bytes(tensor, out, 16), NEURO_BAD_SHAPE, "16 B given for the 12 B");
    CHECK_FAILS(neuro_tensor_copy_from_bytes(tensor, out, 11), NEURO_BAD_SHAPE, "11 B given for the 12 B");
    CHECK_FAILS(neuro_tensor_copy_to_bytes(tensor, NULL, 12), NEURO_INVALID_ARGUMENT, "destination is NULL");
    CHECK_FAILS(neuro_tensor_copy_from_bytes(tensor, NULL, 12), NEURO_INVALID_ARGUMENT, "source is NULL");
    CHECK_FAILS(neuro_tensor_fill_i64(bytes, 256), NEURO_INVALID_ARGUMENT, "256");
    CHECK_FAILS(neuro_tensor_fill_i64(bytes, -1), NEURO_INVALID_ARGUMENT, "-1");
    CHECK_FAILS(neuro_tensor_fill_f64(bytes, 1e300), NEURO_INVALID_ARGUMENT, "uint8");
    CHECK_FAILS(neuro_tensor_fill_f64(bytes, 1.5), NEURO_INVALID_ARGUMENT, "1.5");
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_OK(neuro_tensor_release(bytes));
    CHECK_OK(neuro_tensor_release(longer));
}

static void a_message_stays_until_the_next_failure(void) {
    neuro_pool_t *pool;
    neuro_clear_error();
    CHECK(neuro_last_error() != NULL && *neuro_last_error() == '\0');
    CHECK(neuro_tensor_retain(NULL) == NEURO_INVALID_ARGUMENT);
    const char *message = neuro_last_error();
    CHECK_OK(neuro_pool_create(NULL, &pool));
    CHECK_OK(neuro_pool_release(pool));
    CHECK(neuro_last_error() == message && strcmp(message, "neuro_tensor_retain: the neuro_tensor_t is NULL") == 0);
}

int main(void) {
    RUN(null_outputs);
    RUN(null_handles);
    RUN(released_and_foreign_handles);
    RUN(a_release_after_the_last_release);
    RUN(frees_of_what_is_no_block);
    RUN(impossible_shapes);
    RUN(unknown_dtypes);
    RUN(limits);
    RUN(bad_options);
    RUN(ranges_and_axes);
    RUN(contents_that_do_not_fit);
    RUN(a_message_stays_until_the_next_failure);
    return DONE();
}
