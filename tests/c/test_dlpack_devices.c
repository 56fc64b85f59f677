/* DLPack of tensors on a Vulkan device: out and back in within the library, and what strangers may and may not do. Without a device it
 * is SKIPPED, unless NEURO_REQUIRE_VULKAN is set. */
#include "check.h"
#include "dlpack_abi.h"

static const neuro_device_t gpu = {NEURO_DEVICE_VULKAN, 0}, cpu = {NEURO_DEVICE_CPU, 0};

/* 4 x 6 numbers on the device. */
static neuro_tensor_t *far_numbers(void) {
    neuro_tensor_t *here = NULL, *there = NULL;
    if (neuro_tensor_empty(NULL, NEURO_DTYPE_INT32, 2, (int64_t[]){4, 6}, &here) == NEURO_OK) {
        int32_t *values = neuro_tensor_get_data(here);
        for (int32_t i = 0; i < 24; i++) {
            values[i] = i;
        }
        neuro_tensor_to_device(here, gpu, &there);
        neuro_tensor_release(here);
    }
    return there;
}

static int first_is(const neuro_tensor_t *there, int32_t value) {
    neuro_tensor_t *back = NULL;
    if (neuro_tensor_to_device(there, cpu, &back) != NEURO_OK) {
        return 0;
    }
    int right = *(const int32_t *)neuro_tensor_get_const_data(back) == value;
    neuro_tensor_release(back);
    return right;
}

static void out_and_in_share_the_storage(void) {
    neuro_tensor_t *there = far_numbers(), *part, *same, *again;
    DLManagedTensor *old;
    DLManagedTensorVersioned *versioned;
    CHECK(there != NULL);
    CHECK_OK(neuro_tensor_slice(there, 1, 2, 6, 2, &part));
    CHECK_OK(neuro_tensor_to_dlpack(part, &old));
    CHECK(neuro_tensor_use_count(there) == 3);
    const DLTensor *dl = &old->dl_tensor;
    CHECK(dl->device.device_type == DL_VULKAN && dl->device.device_id == 0 && dl->byte_offset == 0);
    /* In a page that no system maps. */
    CHECK(dl->data != NULL && (uintptr_t)dl->data < 4096 && (uintptr_t)dl->data % 256 == 0);
    CHECK(dl->ndim == 2 && dl->shape[0] == 4 && dl->shape[1] == 2 && dl->strides[0] == 6 && dl->strides[1] == 2);
    CHECK_OK(neuro_tensor_from_dlpack(old, &same));
    CHECK(neuro_tensor_use_count(there) == 3);
    CHECK(neuro_tensor_get_device(same).type == NEURO_DEVICE_VULKAN && first_is(same, 2));
    CHECK_OK(neuro_tensor_to_dlpack_versioned(same, &versioned));
    CHECK(versioned->version.major == 1 && versioned->flags == 0);
    CHECK_OK(neuro_tensor_from_dlpack_versioned(versioned, &again));
    CHECK_OK(neuro_tensor_release(there));
    CHECK_OK(neuro_tensor_release(part));
    CHECK_OK(neuro_tensor_release(same));
    CHECK(neuro_tensor_use_count(again) == 1 && first_is(again, 2));
    CHECK_OK(neuro_tensor_release(again));
}

static void an_export_that_nobody_takes(void) {
    neuro_tensor_t *there = far_numbers();
    DLManagedTensor *old;
    DLManagedTensorVersioned *versioned;
    CHECK(there != NULL);
    CHECK_OK(neuro_tensor_to_dlpack(there, &old));
    CHECK_OK(neuro_tensor_to_dlpack_versioned(there, &versioned));
    CHECK_OK(neuro_tensor_release(there));
    old->deleter(old);
    versioned->deleter(versioned);
}

static int deleted;

static void count_deletion(DLManagedTensor *self) {
    (void)self;
    deleted++;
}

static void count_deletion_versioned(DLManagedTensorVersioned *self) {
    (void)self;
    deleted++;
}

static void strangers_are_refused(void) {
    /* As TVM has it: the pointer is to an object of the producer's, and nothing of that is read. */
    int64_t shape[] = {2}, strides[] = {1};
    DLTensor dl = {.data = (void *)(uintptr_t)64, .device = {DL_VULKAN, 0}, .ndim = 1, .dtype = {DL_INT, 32, 1}, .shape = shape, .strides = strides};
    DLManagedTensor old = {.dl_tensor = dl, .manager_ctx = (void *)(uintptr_t)64, .deleter = count_deletion};
    DLManagedTensorVersioned versioned = {.version = {1, 1}, .manager_ctx = (void *)(uintptr_t)64, .deleter = count_deletion_versioned, .dl_tensor = dl};
    neuro_tensor_t *none;
    CHECK_FAILS(neuro_tensor_from_dlpack(&old, &none), NEURO_EXCHANGE, "another library exported it");
    CHECK(none == NULL);
    CHECK_FAILS(neuro_tensor_from_dlpack_versioned(&versioned, &none), NEURO_EXCHANGE, "another library exported it");
    CHECK(none == NULL);
    old.deleter = NULL;
    CHECK_FAILS(neuro_tensor_from_dlpack(&old, &none), NEURO_EXCHANGE, "another library exported it");
    CHECK(deleted == 0);
}

static void what_was_changed_on_its_way(void) {
    neuro_tensor_t *there = far_numbers(), *out;
    DLManagedTensor *old;
    CHECK(there != NULL);
    CHECK_OK(neuro_tensor_to_dlpack(there, &old));
    old->dl_tensor.device.device_id = 1;
    CHECK_FAILS(neuro_tensor_from_dlpack(old, &out), NEURO_EXCHANGE, "changed on its way");
    old->dl_tensor.device.device_id = 0;
    old->dl_tensor.shape[0] = 5;
    CHECK_FAILS(neuro_tensor_from_dlpack(old, &out), NEURO_EXCHANGE, "outside the 96 B");
    CHECK(out == NULL && neuro_tensor_use_count(there) == 2);
    /* A part of it is a part of it. */
    old->dl_tensor.shape[0] = 1;
    old->dl_tensor.byte_offset = 24;
    CHECK_OK(neuro_tensor_from_dlpack(old, &out));
    CHECK(neuro_tensor_use_count(there) == 2 && first_is(out, 6));
    CHECK_OK(neuro_tensor_release(out));
    CHECK_OK(neuro_tensor_release(there));
}

int main(void) {
    RUN(strangers_are_refused);
    if (!has_vulkan("DLPack of a Vulkan device")) {
        return DONE();
    }
    RUN(out_and_in_share_the_storage);
    RUN(an_export_that_nobody_takes);
    RUN(what_was_changed_on_its_way);
    return DONE();
}
