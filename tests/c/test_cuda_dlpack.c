/* Memory of a CUDA device out and in by DLPack, with streams of the program's. What is not in order the simulated driver finds. */
#include "cuda.h"
#include "dlpack_abi.h"

static void *made_stream(void) {
    void *stream = NULL;
    return cu.create(&stream, 1) == 0 ? stream : NULL;
}

static void fill_on(void *stream, const void *to, float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    CHECK(cu.fill((uint64_t)(uintptr_t)to, bits, COUNT, stream) == 0);
}

static void a_consumer_on_a_stream(void) {
    void *stream = made_stream();
    neuro_tensor_t *tensor = ramp(gpu);
    DLManagedTensor *old = NULL;
    DLManagedTensorVersioned *versioned = NULL;
    uint64_t pointer = 0;
    CHECK_OK(neuro_cuda_get_pointer(tensor, &pointer));
    CHECK_OK(neuro_tensor_to_dlpack_on(tensor, stream, &old));
    CHECK_OK(neuro_tensor_to_dlpack_versioned_on(tensor, NULL, &versioned));
    CHECK(old->dl_tensor.device.device_type == DL_CUDA && old->dl_tensor.device.device_id == 0);
    CHECK((uint64_t)(uintptr_t)old->dl_tensor.data == pointer && versioned->dl_tensor.data == old->dl_tensor.data);
    fill_on(stream, old->dl_tensor.data, 3);
    CHECK(is(tensor, 3, 0));
    old->deleter(old);
    fill_on(NULL, versioned->dl_tensor.data, 4);
    CHECK(is(tensor, 4, 0));
    fill_on(NULL, versioned->dl_tensor.data, 5);
    neuro_tensor_release(tensor);
    versioned->deleter(versioned);
    tensor = ramp(gpu);
    CHECK(is(tensor, 0, 1));
    neuro_tensor_release(tensor);
    CHECK(cu.destroy(stream) == 0);
}

/* Another library's tensor over one of ours. */
typedef struct {
    DLManagedTensor managed, *ours;
    int *deleted;
} theirs_t;

static void delete_theirs(DLManagedTensor *self) {
    theirs_t *theirs = self->manager_ctx;
    theirs->ours->deleter(theirs->ours);
    ++*theirs->deleted;
    free(theirs);
}

static DLManagedTensor *as_theirs(neuro_tensor_t *tensor, void *stream, int *deleted) {
    theirs_t *theirs = calloc(1, sizeof *theirs);
    if (theirs == NULL || neuro_tensor_to_dlpack_on(tensor, stream, &theirs->ours) != NEURO_OK) {
        printf("FAILED: %s\n", neuro_last_error());
        exit(1);
    }
    theirs->managed = *theirs->ours;
    theirs->managed.manager_ctx = theirs;
    theirs->managed.deleter = delete_theirs;
    theirs->deleted = deleted;
    return &theirs->managed;
}

static void a_producer_on_a_stream(void) {
    void *stream = made_stream();
    int deleted = 0;
    neuro_tensor_t *base = ramp(gpu), *here = NULL, *home = NULL;
    DLManagedTensor *managed = as_theirs(base, stream, &deleted);
    fill_on(stream, managed->dl_tensor.data, 6);
    CHECK_OK(neuro_tensor_from_dlpack_on(managed, stream, &here));
    CHECK(is(here, 6, 0));
    neuro_tensor_release(here);
    CHECK(deleted == 1); /* what was done with it is over, as the copy to the host has shown */

    managed = as_theirs(base, NULL, &deleted);
    fill_on(NULL, managed->dl_tensor.data, 7);
    CHECK_OK(neuro_tensor_from_dlpack(managed, &here));
    fill_on(NULL, managed->dl_tensor.data, 8);
    CHECK(is(here, 8, 0));
    neuro_tensor_release(here);
    CHECK(deleted == 2);

    managed = as_theirs(base, NULL, &deleted);
    managed->dl_tensor.device.device_id = 99;
    CHECK_FAILS(neuro_tensor_from_dlpack(managed, &here), NEURO_EXCHANGE, "99");
    CHECK(here == NULL);
    managed->deleter(managed);

    CHECK_OK(neuro_tensor_to_dlpack(base, &managed));
    CHECK_OK(neuro_tensor_from_dlpack(managed, &home));
    CHECK(is(home, 8, 0));
    neuro_tensor_release(home);
    neuro_tensor_release(base);
    CHECK(cu.destroy(stream) == 0);
}

int main(void) {
    if (!has_cuda("DLPack of CUDA's memory")) {
        return DONE();
    }
    if (!open_driver()) {
        printf("FAILED cuda:0 cannot be opened: %s\n", neuro_last_error());
        return 1;
    }
    RUN(a_consumer_on_a_stream);
    RUN(a_producer_on_a_stream);
    return DONE();
}
