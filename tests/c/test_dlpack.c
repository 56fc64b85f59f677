/* DLPack, in and out. */
#include "check.h"
#include "dlpack_abi.h"

#define SHAPE(...) (sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__}

static int deleted;

static void count_deletion(DLManagedTensor *self) {
    (void)self;
    deleted++;
}

static void count_deletion_versioned(DLManagedTensorVersioned *self) {
    (void)self;
    deleted++;
}

static void an_export_shares_and_keeps_the_storage(void) {
    neuro_tensor_t *tensor, *columns;
    DLManagedTensor *managed;
    CHECK_OK(neuro_tensor_zeros(NULL, NEURO_DTYPE_FLOAT64, SHAPE(3, 4), &tensor));
    CHECK_OK(neuro_tensor_slice(tensor, 1, 1, 3, 1, &columns));
    CHECK_OK(neuro_tensor_to_dlpack(columns, &managed));
    CHECK(neuro_tensor_use_count(tensor) == 3);
    const DLTensor *dl = &managed->dl_tensor;
    CHECK(dl->data == neuro_tensor_get_data(columns) && dl->byte_offset == 0);
    CHECK(dl->device.device_type == DL_CPU && dl->device.device_id == 0);
    CHECK(dl->dtype.code == DL_FLOAT && dl->dtype.bits == 64 && dl->dtype.lanes == 1);
    CHECK(dl->ndim == 2 && dl->shape[0] == 3 && dl->shape[1] == 2);
    CHECK(dl->strides[0] == 4 && dl->strides[1] == 1);
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_OK(neuro_tensor_release(columns));
    ((double *)dl->data)[1] = 5;
    managed->deleter(managed);
}

static void an_export_comes_back(void) {
    neuro_tensor_t *tensor, *same;
    DLManagedTensorVersioned *managed;
    CHECK_OK(neuro_tensor_zeros(NULL, NEURO_DTYPE_COMPLEX64, SHAPE(2, 2), &tensor));
    CHECK_OK(neuro_tensor_to_dlpack_versioned(tensor, &managed));
    CHECK(managed->version.major == 1 && (managed->flags & DL_READ_ONLY) == 0);
    CHECK_OK(neuro_tensor_from_dlpack_versioned(managed, &same));
    CHECK(neuro_tensor_get_data(same) == neuro_tensor_get_data(tensor));
    CHECK(neuro_tensor_get_dtype(same) == NEURO_DTYPE_COMPLEX64);
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_OK(neuro_tensor_fill_f64(same, 3));
    CHECK_OK(neuro_tensor_release(same));
}

static void a_foreign_tensor_is_used_in_place_and_deleted_once(void) {
    int32_t data[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    int64_t shape[] = {2, 3}, strides[] = {-4, 1};
    DLManagedTensor managed = {.dl_tensor = {.data = data,
                                             .device = {DL_CPU, 0},
                                             .ndim = 2,
                                             .dtype = {DL_INT, 32, 1},
                                             .shape = shape,
                                             .strides = strides,
                                             .byte_offset = 16},
                               .deleter = count_deletion};
    neuro_tensor_t *tensor, *view;
    deleted = 0;
    CHECK_OK(neuro_tensor_from_dlpack(&managed, &tensor));
    const void *element;
    CHECK_OK(neuro_tensor_const_at(tensor, SHAPE(1, 2), &element));
    CHECK(element == &data[2]);
    CHECK_OK(neuro_tensor_select(tensor, 0, 0, &view));
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK(deleted == 0);
    CHECK_OK(neuro_tensor_fill_i64(view, 9));
    CHECK(data[3] == 3 && data[4] == 9 && data[6] == 9 && data[7] == 7);
    CHECK_OK(neuro_tensor_release(view));
    CHECK(deleted == 1);
}

static void no_strides_mean_c_order_and_no_deleter_is_fine(void) {
    int32_t data[6] = {0, 1, 2, 3, 4, 5};
    int64_t shape[] = {2, 3};
    DLManagedTensor managed = {
        .dl_tensor = {
            .data = data, .device = {DL_CPU, 0}, .ndim = 2, .dtype = {DL_INT, 32, 1}, .shape = shape}};
    neuro_tensor_t *tensor;
    CHECK_OK(neuro_tensor_from_dlpack(&managed, &tensor));
    CHECK(neuro_tensor_get_strides(tensor)[0] == 3 && neuro_tensor_is_contiguous(tensor));
    CHECK_OK(neuro_tensor_release(tensor));
}

static void read_only_is_kept(void) {
    static const float data[2] = {1, 2};
    int64_t shape[] = {2}, strides[] = {1};
    DLManagedTensorVersioned managed = {.version = {1, 0},
                                        .deleter = count_deletion_versioned,
                                        .flags = DL_READ_ONLY,
                                        .dl_tensor = {.data = (void *)data,
                                                      .device = {DL_CPU, 0},
                                                      .ndim = 1,
                                                      .dtype = {DL_FLOAT, 32, 1},
                                                      .shape = shape,
                                                      .strides = strides}};
    neuro_tensor_t *tensor, *copy;
    DLManagedTensor *old;
    DLManagedTensorVersioned *again;
    void *element;
    deleted = 0;
    CHECK_OK(neuro_tensor_from_dlpack_versioned(&managed, &tensor));
    CHECK(neuro_tensor_is_readonly(tensor));
    CHECK(neuro_tensor_get_const_data(tensor) == data);
    neuro_clear_error();
    CHECK(neuro_tensor_get_data(tensor) == NULL && neuro_last_status() == NEURO_READ_ONLY);
    CHECK_FAILS(neuro_tensor_at(tensor, SHAPE(0), &element), NEURO_READ_ONLY, "read-only");
    CHECK_FAILS(neuro_tensor_fill_f64(tensor, 0), NEURO_READ_ONLY, "read-only");
    CHECK_FAILS(neuro_tensor_copy_from_bytes(tensor, (float[]){3, 4}, 8), NEURO_READ_ONLY, "read-only");
    CHECK_OK(neuro_tensor_copy(tensor, NULL, &copy));
    CHECK_FAILS(neuro_tensor_copy_from(tensor, copy), NEURO_READ_ONLY, "read-only");
    CHECK_FAILS(neuro_tensor_to_dlpack(tensor, &old), NEURO_EXCHANGE, "read-only");
    CHECK(old == NULL);
    CHECK_OK(neuro_tensor_to_dlpack_versioned(tensor, &again));
    CHECK(again->flags & DL_READ_ONLY);
    again->deleter(again);
    CHECK_OK(neuro_tensor_fill_f64(copy, 0));
    CHECK_OK(neuro_tensor_release(copy));
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK(deleted == 1 && data[0] == 1);
}

/* A foreign tensor with one thing wrong. Refused means: not consumed, nothing made, nothing deleted. */
#define REFUSED(words, ...)                                                                                     \
    do {                                                                                                        \
        int64_t shape[] = {2, 3}, strides[] = {3, 1};                                                           \
        DLManagedTensor managed = {.dl_tensor = {.data = data,                                                  \
                                                 .device = {DL_CPU, 0},                                         \
                                                 .ndim = 2,                                                     \
                                                 .dtype = {DL_INT, 32, 1},                                      \
                                                 .shape = shape,                                                \
                                                 .strides = strides},                                           \
                                   .deleter = count_deletion};                                                  \
        DLTensor *dl = &managed.dl_tensor;                                                                      \
        __VA_ARGS__;                                                                                            \
        (void)dl;                                                                                               \
        neuro_tensor_t *tensor = (neuro_tensor_t *)&managed;                                                    \
        CHECK_FAILS(neuro_tensor_from_dlpack(&managed, &tensor), NEURO_EXCHANGE, words);                        \
        CHECK(tensor == NULL);                                                                                  \
    } while (0)

static void what_cannot_be_taken_stays_the_callers(void) {
    int32_t data[8] = {0};
    deleted = 0;
    REFUSED("CUDA device 77", (dl->device.device_type = DL_CUDA, dl->device.device_id = 77));
    REFUSED("device type 7", dl->device.device_type = 7);
    REFUSED("device type -1", dl->device.device_type = -1);
    REFUSED("dimensions", dl->ndim = -1);
    REFUSED("dimensions", dl->ndim = 65);
    REFUSED("dimensions", dl->ndim = INT32_MAX);
    REFUSED("shape", dl->shape = NULL);
    REFUSED("impossible", shape[0] = -1);
    REFUSED("impossible", shape[0] = INT64_MAX);
    REFUSED("impossible", shape[0] = shape[1] = (int64_t)1 << 40);
    REFUSED("impossible", shape[0] = (int64_t)1 << 61; dl->strides = NULL);
    REFUSED("impossible", strides[0] = INT64_MAX);
    REFUSED("impossible", strides[0] = INT64_MIN);
    REFUSED("outside", strides[0] = -((int64_t)1 << 46));
    REFUSED("outside", strides[0] = (int64_t)1 << 57);
    REFUSED("outside", dl->byte_offset = UINT64_MAX - 3);
    REFUSED("NULL", dl->data = NULL);
    REFUSED("aligned", dl->data = (char *)data + 1);
    REFUSED("lanes", dl->dtype.lanes = 4);
    REFUSED("code 2, 8 bits", dl->dtype = ((DLDataType){DL_FLOAT, 8, 1}));
    REFUSED("code 99", dl->dtype.code = 99);
    CHECK(deleted == 0);
}

static void another_major_version_is_refused_unread(void) {
    DLManagedTensorVersioned managed = {.version = {2, 0}, .deleter = count_deletion_versioned};
    neuro_tensor_t *tensor;
    deleted = 0;
    CHECK_FAILS(neuro_tensor_from_dlpack_versioned(&managed, &tensor), NEURO_EXCHANGE, "DLPack 2.0");
    CHECK(tensor == NULL && deleted == 0);
}

static void nulls_and_stale_handles_are_refused(void) {
    neuro_tensor_t *tensor;
    DLManagedTensor *managed;
    CHECK_OK(neuro_tensor_zeros(NULL, NEURO_DTYPE_INT8, SHAPE(1), &tensor));
    CHECK_FAILS(neuro_tensor_to_dlpack(tensor, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_tensor_to_dlpack(NULL, &managed), NEURO_INVALID_ARGUMENT, "neuro_tensor_t is NULL");
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_FAILS(neuro_tensor_to_dlpack(tensor, &managed), NEURO_INVALID_ARGUMENT, "no live neuro_tensor_t");
    CHECK(managed == NULL);
    CHECK_FAILS(neuro_tensor_from_dlpack(NULL, &tensor), NEURO_INVALID_ARGUMENT, "managed is NULL");
    CHECK_FAILS(neuro_tensor_from_dlpack_versioned(NULL, &tensor), NEURO_INVALID_ARGUMENT, "managed is NULL");

    /* No place for the result: the foreign tensor is not taken. */
    int32_t data = 0;
    DLManagedTensor foreign = {.dl_tensor = {.data = &data, .device = {DL_CPU, 0}, .dtype = {DL_INT, 32, 1}},
                               .deleter = count_deletion};
    deleted = 0;
    CHECK_FAILS(neuro_tensor_from_dlpack(&foreign, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK(deleted == 0);
}

int main(void) {
    RUN(an_export_shares_and_keeps_the_storage);
    RUN(an_export_comes_back);
    RUN(a_foreign_tensor_is_used_in_place_and_deleted_once);
    RUN(no_strides_mean_c_order_and_no_deleter_is_fine);
    RUN(read_only_is_kept);
    RUN(what_cannot_be_taken_stays_the_callers);
    RUN(another_major_version_is_refused_unread);
    RUN(nulls_and_stale_handles_are_refused);
    return DONE();
}
