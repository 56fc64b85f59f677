/* Tensors, views, contents. */
#include "check.h"

#define SHAPE(...) (sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__}

/* 0, 1, 2, ... as int32, in the default pool. */
static neuro_tensor_t *counting(size_t ndim, const int64_t *shape) {
    neuro_tensor_t *tensor;
    if (neuro_tensor_empty(NULL, NEURO_DTYPE_INT32, ndim, shape, &tensor) != NEURO_OK) {
        return NULL;
    }
    int32_t *data = neuro_tensor_get_data(tensor);
    for (size_t i = 0; i < neuro_tensor_get_numel(tensor); i++) {
        data[i] = (int32_t)i;
    }
    return tensor;
}

/* Whether the elements, in C order, are these. */
static bool holds(const neuro_tensor_t *tensor, const int32_t *wanted, size_t bytes) {
    int32_t found[64];
    return bytes <= sizeof found && neuro_tensor_copy_to_bytes(tensor, found, bytes) == NEURO_OK
           && memcmp(found, wanted, bytes) == 0;
}
#define HOLDS(tensor, ...) holds(tensor, (const int32_t[]){__VA_ARGS__}, sizeof((int32_t[]){__VA_ARGS__}))

static void facts_of_a_tensor(void) {
    neuro_tensor_t *tensor;
    CHECK_OK(neuro_tensor_zeros(NULL, NEURO_DTYPE_FLOAT32, SHAPE(3, 4, 5), &tensor));
    CHECK(neuro_tensor_get_ndim(tensor) == 3);
    CHECK(memcmp(neuro_tensor_get_shape(tensor), (int64_t[]){3, 4, 5}, 3 * sizeof(int64_t)) == 0);
    CHECK(memcmp(neuro_tensor_get_strides(tensor), (int64_t[]){20, 5, 1}, 3 * sizeof(int64_t)) == 0);
    CHECK(neuro_tensor_get_dtype(tensor) == NEURO_DTYPE_FLOAT32);
    CHECK(neuro_tensor_get_numel(tensor) == 60);
    CHECK(neuro_tensor_get_nbytes(tensor) == 240);
    CHECK(neuro_tensor_get_alignment(tensor) >= 64);
    CHECK(neuro_tensor_is_contiguous(tensor));
    CHECK(!neuro_tensor_is_readonly(tensor));
    const float *data = neuro_tensor_get_const_data(tensor);
    CHECK((uintptr_t)data % 64 == 0 && neuro_tensor_get_data(tensor) == data);
    for (int i = 0; i < 60; i++) {
        CHECK(data[i] == 0);
    }
    CHECK_OK(neuro_tensor_release(tensor));
}

static void scalars_and_empty_tensors(void) {
    neuro_tensor_t *scalar, *empty;
    CHECK_OK(neuro_tensor_zeros(NULL, NEURO_DTYPE_INT64, 0, NULL, &scalar));
    CHECK(neuro_tensor_get_ndim(scalar) == 0 && neuro_tensor_get_numel(scalar) == 1);
    CHECK_OK(neuro_tensor_fill_i64(scalar, INT64_MIN));
    CHECK(*(const int64_t *)neuro_tensor_get_const_data(scalar) == INT64_MIN);
    CHECK_OK(neuro_tensor_empty(NULL, NEURO_DTYPE_INT64, SHAPE(3, 0), &empty));
    CHECK(neuro_tensor_get_numel(empty) == 0 && neuro_tensor_get_nbytes(empty) == 0);
    CHECK_OK(neuro_tensor_fill_i64(empty, 1));
    CHECK_OK(neuro_tensor_copy_to_bytes(empty, NULL, 0));
    CHECK_OK(neuro_tensor_release(scalar));
    CHECK_OK(neuro_tensor_release(empty));
}

static void options_choose_pool_and_alignment(void) {
    neuro_pool_t *pool;
    neuro_tensor_t *tensor;
    CHECK_OK(neuro_pool_create(NULL, &pool));
    neuro_tensor_options_t options = {
        .struct_size = sizeof options, .pool = pool, .alignment = 1 << 21, .flags = NEURO_TENSOR_ZEROED};
    CHECK_OK(neuro_tensor_create(&options, NEURO_DTYPE_UINT8, SHAPE(100), &tensor));
    CHECK(neuro_tensor_get_alignment(tensor) == 1 << 21);
    CHECK(((const char *)neuro_tensor_get_const_data(tensor))[99] == 0);
    neuro_pool_stats_t stats = {.struct_size = sizeof stats};
    CHECK_OK(neuro_pool_get_stats(pool, &stats));
    CHECK(stats.live_blocks == 1);
    /* The tensor keeps the pool's memory. */
    CHECK_OK(neuro_pool_release(pool));
    CHECK_OK(neuro_tensor_fill_i64(tensor, 255));
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_OK(neuro_tensor_create(NULL, NEURO_DTYPE_UINT8, SHAPE(100), &tensor));
    CHECK_OK(neuro_tensor_release(tensor));
}

static void references_are_counted(void) {
    neuro_tensor_t *tensor = counting(SHAPE(4)), *view;
    CHECK(neuro_tensor_refcount(tensor) == 1 && neuro_tensor_use_count(tensor) == 1);
    CHECK_OK(neuro_tensor_retain(tensor));
    CHECK(neuro_tensor_refcount(tensor) == 2 && neuro_tensor_use_count(tensor) == 1);
    CHECK_OK(neuro_tensor_select(tensor, 0, 3, &view));
    CHECK(neuro_tensor_refcount(tensor) == 2 && neuro_tensor_use_count(tensor) == 2);
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK(neuro_tensor_use_count(view) == 1);
    CHECK(HOLDS(view, 3));
    CHECK_OK(neuro_tensor_release(view));
    CHECK_OK(neuro_tensor_release(NULL));
}

static void views_share_and_show_the_right_elements(void) {
    neuro_tensor_t *tensor = counting(SHAPE(3, 4)), *rows, *backwards, *column, *turned, *turned_too, *flat;
    CHECK_OK(neuro_tensor_slice(tensor, 0, 1, 3, 1, &rows));
    CHECK(HOLDS(rows, 4, 5, 6, 7, 8, 9, 10, 11));
    CHECK(neuro_tensor_get_const_data(rows) == (const int32_t *)neuro_tensor_get_const_data(tensor) + 4);
    CHECK_OK(neuro_tensor_slice(rows, 1, 3, -1, -2, &backwards));
    CHECK(HOLDS(backwards, 7, 5, 11, 9));
    CHECK(neuro_tensor_get_strides(backwards)[1] == -2 && !neuro_tensor_is_contiguous(backwards));
    CHECK_OK(neuro_tensor_select(tensor, 1, 2, &column));
    CHECK(HOLDS(column, 2, 6, 10));
    CHECK_OK(neuro_tensor_transpose(tensor, &turned));
    CHECK(HOLDS(turned, 0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11));
    CHECK_OK(neuro_tensor_permute(tensor, 2, (size_t[]){1, 0}, &turned_too));
    CHECK(HOLDS(turned_too, 0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11));
    CHECK_OK(neuro_tensor_reshape(tensor, SHAPE(12), &flat));
    CHECK(neuro_tensor_get_const_data(flat) == neuro_tensor_get_const_data(tensor));
    CHECK(neuro_tensor_use_count(tensor) == 7);

    /* A write through a view is seen by all. */
    CHECK_OK(neuro_tensor_fill_i64(column, -1));
    CHECK(HOLDS(tensor, 0, 1, -1, 3, 4, 5, -1, 7, 8, 9, -1, 11));
    neuro_tensor_t *all[] = {tensor, rows, backwards, column, turned, turned_too, flat};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        CHECK_OK(neuro_tensor_release(all[i]));
    }
}

static void copies_are_apart(void) {
    neuro_tensor_t *tensor = counting(SHAPE(2, 3)), *turned, *dense, *copy, *flat, *same;
    CHECK_OK(neuro_tensor_transpose(tensor, &turned));
    CHECK_OK(neuro_tensor_contiguous(turned, &dense));
    CHECK_OK(neuro_tensor_contiguous(tensor, &same));
    CHECK_OK(neuro_tensor_copy(turned, NULL, &copy));
    CHECK_OK(neuro_tensor_reshape(turned, SHAPE(6), &flat));
    CHECK(neuro_tensor_get_const_data(same) == neuro_tensor_get_const_data(tensor));
    CHECK(neuro_tensor_is_contiguous(dense) && neuro_tensor_is_contiguous(copy));
    CHECK_OK(neuro_tensor_fill_i64(tensor, 9));
    CHECK(HOLDS(dense, 0, 3, 1, 4, 2, 5) && HOLDS(copy, 0, 3, 1, 4, 2, 5) && HOLDS(flat, 0, 3, 1, 4, 2, 5));
    CHECK(HOLDS(same, 9, 9, 9, 9, 9, 9));
    neuro_tensor_t *all[] = {tensor, turned, dense, copy, flat, same};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        CHECK_OK(neuro_tensor_release(all[i]));
    }
}

static void bytes_go_in_and_out_of_strided_tensors(void) {
    neuro_tensor_t *tensor = counting(SHAPE(2, 3)), *turned, *left, *right;
    CHECK_OK(neuro_tensor_transpose(tensor, &turned));
    CHECK_OK(neuro_tensor_copy_from_bytes(turned, (int32_t[]){1, 2, 3, 4, 5, 6}, 24));
    CHECK(HOLDS(tensor, 1, 3, 5, 2, 4, 6));
    CHECK_OK(neuro_tensor_copy_from_bytes(tensor, (int32_t[]){1, 2, 3, 4, 5, 6}, 24));
    CHECK(HOLDS(tensor, 1, 2, 3, 4, 5, 6));

    /* The two overlap: as if the source had been copied elsewhere first. */
    CHECK_OK(neuro_tensor_slice(tensor, 1, 0, 2, 1, &left));
    CHECK_OK(neuro_tensor_slice(tensor, 1, 1, 3, 1, &right));
    CHECK_OK(neuro_tensor_copy_from(right, left));
    CHECK(HOLDS(tensor, 1, 1, 2, 4, 4, 5));
    neuro_tensor_t *all[] = {tensor, turned, left, right};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        CHECK_OK(neuro_tensor_release(all[i]));
    }
}

static void elements_can_be_reached(void) {
    neuro_tensor_t *tensor = counting(SHAPE(3, 4)), *backwards;
    void *element;
    const void *const_element;
    CHECK_OK(neuro_tensor_slice(tensor, 1, 3, -1, -1, &backwards));
    CHECK_OK(neuro_tensor_at(backwards, SHAPE(2, 1), &element));
    CHECK(*(int32_t *)element == 10);
    *(int32_t *)element = 100;
    CHECK_OK(neuro_tensor_const_at(tensor, SHAPE(2, 2), &const_element));
    CHECK(const_element == element);
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_OK(neuro_tensor_release(backwards));
}

static void fills_convert(void) {
    neuro_tensor_t *tensor;
    CHECK_OK(neuro_tensor_empty(NULL, NEURO_DTYPE_BFLOAT16, SHAPE(2), &tensor));
    CHECK_OK(neuro_tensor_fill_f64(tensor, 1.5));
    CHECK(((const uint16_t *)neuro_tensor_get_const_data(tensor))[1] == 0x3fc0);
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_OK(neuro_tensor_empty(NULL, NEURO_DTYPE_COMPLEX64, SHAPE(2), &tensor));
    CHECK_OK(neuro_tensor_fill_f64(tensor, 2));
    const float *parts = neuro_tensor_get_const_data(tensor);
    CHECK(parts[2] == 2 && parts[3] == 0);
    CHECK_OK(neuro_tensor_release(tensor));
}

int main(void) {
    RUN(facts_of_a_tensor);
    RUN(scalars_and_empty_tensors);
    RUN(options_choose_pool_and_alignment);
    RUN(references_are_counted);
    RUN(views_share_and_show_the_right_elements);
    RUN(copies_are_apart);
    RUN(bytes_go_in_and_out_of_strided_tensors);
    RUN(elements_can_be_reached);
    RUN(fills_convert);
    return DONE();
}
