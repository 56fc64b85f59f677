/* CUDA's own names for what tensors lie in, and streams of the program's own. What is wrong without a device is refused everywhere; the
 * rest needs one, and is SKIPPED without unless NEURO_REQUIRE_CUDA is set. */
#include "cuda.h"
#include <stddef.h>

#define SUBMIT(stream, tensor, access, work) \
    neuro_cuda_stream_submit(stream, (const neuro_tensor_t *const[]){tensor}, (const uint32_t[]){access}, 1, fill, work)

static void what_is_refused_everywhere(void) {
    neuro_tensor_t *here = ramp(cpu), *made = here;
    neuro_cuda_handles_t handles = {.struct_size = sizeof handles};
    neuro_cuda_stream_t *stream = (neuro_cuda_stream_t *)&handles;
    uint64_t pointer = 7;
    CHECK_FAILS(neuro_cuda_get_handles(gpu, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_cuda_get_handles(cpu, &handles), NEURO_INVALID_ARGUMENT, "cpu is no CUDA device");
    CHECK_FAILS(neuro_cuda_get_handles((neuro_device_t){9, 9}, &handles), NEURO_INVALID_ARGUMENT, "device type 9");
    CHECK_FAILS(neuro_cuda_get_handles((neuro_device_t){2, 998}, &handles), NEURO_UNAVAILABLE, "cuda:998");
    handles.struct_size = 3;
    CHECK_FAILS(neuro_cuda_get_handles(gpu, &handles), NEURO_INVALID_ARGUMENT, "struct_size is 3");
    CHECK_FAILS(neuro_cuda_get_pointer(NULL, &pointer), NEURO_INVALID_ARGUMENT, "is NULL");
    CHECK(pointer == 0);
    CHECK_FAILS(neuro_cuda_get_pointer(here, &pointer), NEURO_INVALID_ARGUMENT, "lies on cpu");
    CHECK_FAILS(neuro_cuda_get_pointer(here, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");

    CHECK_FAILS(neuro_cuda_stream_wait_for(stream, here, 1), NEURO_INVALID_ARGUMENT, "no live neuro_cuda_stream_t");
    CHECK_FAILS(neuro_cuda_stream_wait_for(NULL, here, 1), NEURO_INVALID_ARGUMENT, "the neuro_cuda_stream_t is NULL");
    CHECK_FAILS(neuro_cuda_stream_wait_for_transfer(stream, NULL), NEURO_INVALID_ARGUMENT, "no live neuro_cuda_stream_t");
    CHECK_FAILS(neuro_cuda_stream_record(stream, here, 1), NEURO_INVALID_ARGUMENT, "no live neuro_cuda_stream_t");
    CHECK_FAILS(neuro_cuda_stream_empty(stream, NULL, NEURO_DTYPE_INT8, SHAPE(1), &made), NEURO_INVALID_ARGUMENT,
                "no live neuro_cuda_stream_t");
    CHECK(made == NULL);
    CHECK_FAILS(SUBMIT(stream, here, 1, NULL), NEURO_INVALID_ARGUMENT, "no live neuro_cuda_stream_t");
    CHECK_FAILS(neuro_cuda_stream_retain(stream), NEURO_INVALID_ARGUMENT, "no live neuro_cuda_stream_t");
    CHECK_FAILS(neuro_cuda_stream_release(stream), NEURO_INVALID_FREE, "no live neuro_cuda_stream_t");
    CHECK_OK(neuro_cuda_stream_release(NULL));
    CHECK_FAILS(neuro_cuda_stream_open(gpu, NULL, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_cuda_stream_open(cpu, NULL, &stream), NEURO_INVALID_ARGUMENT, "cpu is no CUDA device");
    CHECK(stream == NULL);
    CHECK_OK(neuro_tensor_release(here));
}

static void handles_and_pointers(void) {
    neuro_cuda_handles_t handles = {.struct_size = sizeof handles};
    CHECK_OK(neuro_cuda_get_handles(gpu, &handles));
    CHECK(handles.context != NULL && handles.compute != NULL && handles.upload != NULL && handles.download != NULL);
    CHECK(handles.compute != handles.upload && handles.upload != handles.download);
    CHECK(handles.device >= 0 && handles.capability_major > 0 && handles.driver_version >= 11000);

    neuro_tensor_t *tensor = ramp(gpu), *part = NULL;
    uint64_t whole, half;
    CHECK_OK(neuro_cuda_get_pointer(tensor, &whole));
    CHECK(whole != 0 && whole % 256 == 0);
    CHECK_OK(neuro_tensor_slice(tensor, 0, 500, 1000, 1, &part));
    CHECK_OK(neuro_cuda_get_pointer(part, &half));
    CHECK(half == whole + 2000);
    /* A program with an older header has a shorter struct. */
    neuro_cuda_handles_t old;
    memset(&old, 0x5a, sizeof old);
    old.struct_size = offsetof(neuro_cuda_handles_t, driver_version);
    CHECK_OK(neuro_cuda_get_handles(gpu, &old));
    CHECK(old.context == handles.context && old.driver_version == 0x5a5a5a5a);
    CHECK_OK(neuro_tensor_release(part));
    CHECK_OK(neuro_tensor_release(tensor));
}

static void work_on_a_stream_of_the_program(void) {
    void *raw = NULL;
    neuro_cuda_stream_t *stream = NULL, *same = NULL;
    CHECK(cu.create(&raw, 1) == 0);
    CHECK_OK(neuro_cuda_stream_open(gpu, raw, &stream));
    CHECK_OK(neuro_cuda_stream_open(gpu, raw, &same));
    neuro_tensor_t *tensor = ramp(gpu);
    fill_t work = {.value = 1.5f};
    CHECK_OK(neuro_cuda_get_pointer(tensor, &work.to));
    CHECK_OK(SUBMIT(stream, tensor, NEURO_ACCESS_WRITE, &work));
    CHECK(work.calls == 1 && work.stream == raw);
    CHECK(is(tensor, 1.5f, 0));

    /* By hand: wait, submit, say so. */
    CHECK_OK(neuro_cuda_stream_wait_for(stream, tensor, NEURO_ACCESS_WRITE));
    work.value = 2.5f;
    CHECK(fill(&work, raw) == 0);
    CHECK_OK(neuro_cuda_stream_record(same, tensor, NEURO_ACCESS_WRITE));
    CHECK(is(tensor, 2.5f, 0));

    /* Memory that work of the stream uses still is handed out again behind it. */
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_OK(neuro_cuda_stream_empty(stream, NULL, NEURO_DTYPE_FLOAT32, SHAPE(COUNT), &tensor));
    work.value = 3.5f;
    CHECK_OK(neuro_cuda_get_pointer(tensor, &work.to));
    CHECK_OK(SUBMIT(same, tensor, NEURO_ACCESS_WRITE, &work));
    CHECK(is(tensor, 3.5f, 0));

    /* What the work says when it submits nothing is named, and nothing is changed. */
    work.answer = 700;
    CHECK_FAILS(SUBMIT(stream, tensor, NEURO_ACCESS_WRITE, &work), NEURO_DRIVER, "CUDA_ERROR_ILLEGAL_ADDRESS");
    work.answer = -77;
    CHECK_FAILS(SUBMIT(stream, tensor, NEURO_ACCESS_WRITE, &work), NEURO_DRIVER, "-77");
    CHECK(is(tensor, 3.5f, 0));
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_OK(neuro_cuda_stream_retain(stream));
    CHECK_OK(neuro_cuda_stream_release(stream));
    CHECK_OK(neuro_cuda_stream_release(stream));
    CHECK_FAILS(neuro_cuda_stream_release(stream), NEURO_INVALID_FREE, "was released");
    CHECK_OK(neuro_cuda_stream_release(same));
    CHECK(cu.synchronize(raw) == 0 && cu.destroy(raw) == 0);
}

static void transfers_and_the_default_stream(void) {
    neuro_cuda_stream_t *stream = NULL;
    neuro_tensor_t *here = ramp(cpu), *there = NULL;
    neuro_transfer_t *up = NULL, *down = NULL;
    CHECK_OK(neuro_cuda_stream_open(gpu, NULL, &stream));
    CHECK_OK(neuro_tensor_to_device_async(here, gpu, &up));
    CHECK_OK(neuro_cuda_stream_wait_for_transfer(stream, up));
    CHECK_OK(neuro_transfer_wait(up, &there));
    fill_t work = {.value = 9};
    CHECK_OK(neuro_cuda_get_pointer(there, &work.to));
    CHECK(is(there, 0, 1));
    CHECK_OK(SUBMIT(stream, there, NEURO_ACCESS_WRITE, &work));
    CHECK(work.stream == NULL);
    CHECK_OK(neuro_tensor_to_device_async(there, cpu, &down));
    CHECK_OK(neuro_tensor_release(there));
    CHECK_OK(neuro_transfer_wait(down, &there));
    CHECK(is(there, 9, 0));
    CHECK_OK(neuro_tensor_release(there));
    CHECK_OK(neuro_transfer_release(up));
    CHECK_OK(neuro_transfer_release(down));
    CHECK_OK(neuro_tensor_release(here));
    CHECK_OK(neuro_cuda_stream_release(stream));
}

static void what_a_stream_refuses(void) {
    neuro_cuda_stream_t *stream = NULL;
    neuro_tensor_t *here = ramp(cpu), *there = ramp(gpu), *out = here;
    neuro_pool_t *pool = NULL;
    fill_t work = {.value = 1};
    CHECK_OK(neuro_cuda_stream_open(gpu, NULL, &stream));
    CHECK_FAILS(neuro_cuda_stream_wait_for(stream, here, 1), NEURO_INVALID_ARGUMENT, "lies on cpu");
    CHECK_FAILS(neuro_cuda_stream_wait_for(stream, NULL, 1), NEURO_INVALID_ARGUMENT, "is NULL");
    CHECK_FAILS(neuro_cuda_stream_wait_for(stream, there, 0), NEURO_INVALID_ARGUMENT, "access 0 is unknown");
    CHECK_FAILS(neuro_cuda_stream_wait_for_transfer(stream, NULL), NEURO_INVALID_ARGUMENT, "is NULL");
    CHECK_FAILS(neuro_cuda_stream_record(stream, here, 1), NEURO_INVALID_ARGUMENT, "lies on cpu");
    CHECK_FAILS(neuro_cuda_stream_record(stream, there, 3), NEURO_INVALID_ARGUMENT, "access 3 is unknown");
    CHECK_FAILS(SUBMIT(stream, here, 1, &work), NEURO_INVALID_ARGUMENT, "lies on cpu");
    CHECK_FAILS(SUBMIT(stream, there, 9, &work), NEURO_INVALID_ARGUMENT, "access 9 is unknown");
    CHECK_FAILS(neuro_cuda_stream_submit(stream, NULL, NULL, 0, fill, &work), NEURO_INVALID_ARGUMENT, "no tensor is named");
    CHECK_FAILS(neuro_cuda_stream_submit(stream, NULL, NULL, 1, fill, &work), NEURO_INVALID_ARGUMENT, "tensors is NULL");
    const neuro_tensor_t *one = there;
    uint32_t access = NEURO_ACCESS_READ;
    CHECK_FAILS(neuro_cuda_stream_submit(stream, &one, NULL, 1, fill, &work), NEURO_INVALID_ARGUMENT, "access is NULL");
    CHECK_FAILS(neuro_cuda_stream_submit(stream, &one, &access, 1, NULL, &work), NEURO_INVALID_ARGUMENT, "work is NULL");
    CHECK(work.calls == 0);
    CHECK_OK(neuro_pool_create(NULL, &pool));
    CHECK_FAILS(neuro_cuda_stream_empty(stream, pool, NEURO_DTYPE_INT8, SHAPE(1), &out), NEURO_INVALID_ARGUMENT,
                "the pool is of cpu");
    CHECK_FAILS(neuro_cuda_stream_empty(stream, NULL, 77, SHAPE(1), &out), NEURO_BAD_DTYPE, "dtype code");
    CHECK_FAILS(neuro_cuda_stream_empty(stream, NULL, NEURO_DTYPE_INT8, SHAPE(-1), &out), NEURO_BAD_SHAPE, "negative");
    CHECK_FAILS(neuro_cuda_stream_empty(stream, NULL, NEURO_DTYPE_INT8, 1, NULL, &out), NEURO_INVALID_ARGUMENT, "shape is NULL");
    CHECK(out == NULL);
    CHECK_OK(neuro_pool_release(pool));
    CHECK_OK(neuro_cuda_stream_release(stream));
    CHECK_OK(neuro_tensor_release(here));
    CHECK_OK(neuro_tensor_release(there));
}

/* Memory of the host that the device reaches where it lies. */
static void a_pool_with_gpu_support(void) {
    neuro_pool_options_t options = {.struct_size = sizeof options, .limit_bytes = 8 << 20, .flags = NEURO_POOL_GPU_SUPPORT};
    neuro_pool_t *pool = NULL;
    neuro_tensor_t *here = NULL, *there = NULL;
    CHECK_OK(neuro_pool_create(&options, &pool));
    CHECK_OK(neuro_tensor_empty(pool, NEURO_DTYPE_FLOAT32, SHAPE(COUNT), &here));
    CHECK_OK(neuro_tensor_fill_f64(here, 0.5));
    CHECK_OK(neuro_tensor_to_device(here, gpu, &there));
    CHECK_OK(neuro_tensor_synchronize(there));
    CHECK(is(there, 0.5f, 0));
    CHECK_OK(neuro_tensor_release(there));
    CHECK_OK(neuro_tensor_release(here));
    CHECK_OK(neuro_pool_release(pool));
}

/* Memory in one range of addresses, where streams and pointers are the same thing. */
static void a_pool_that_grows(void) {
    neuro_pool_options_t options = {
        .struct_size = sizeof options, .limit_bytes = 64 << 20, .flags = NEURO_POOL_EXPANDABLE, .device = gpu};
    neuro_pool_t *pool = NULL;
    neuro_cuda_stream_t *stream = NULL;
    neuro_tensor_t *tensor = NULL;
    CHECK_OK(neuro_pool_create(&options, &pool));
    CHECK_OK(neuro_cuda_stream_open(gpu, NULL, &stream));
    neuro_status_t status = neuro_cuda_stream_empty(stream, pool, NEURO_DTYPE_FLOAT32, SHAPE(COUNT), &tensor);
    if (status == NEURO_UNAVAILABLE) {
        printf("SKIPPED: pools that grow: needs hardware: %s\n", neuro_last_error());
    } else {
        CHECK_OK(status);
        fill_t work = {.value = 4.5f};
        CHECK_OK(neuro_cuda_get_pointer(tensor, &work.to));
        CHECK_OK(SUBMIT(stream, tensor, NEURO_ACCESS_WRITE, &work));
        CHECK(is(tensor, 4.5f, 0));
        CHECK_OK(neuro_tensor_release(tensor));
    }
    CHECK_OK(neuro_cuda_stream_release(stream));
    CHECK_OK(neuro_pool_release(pool));
}

int main(void) {
    RUN(what_is_refused_everywhere);
    if (!has_cuda("CUDA's handles and streams")) {
        return DONE();
    }
    if (!open_driver()) {
        printf("FAILED cuda:0 cannot be opened: %s\n", neuro_last_error());
        return 1;
    }
    RUN(handles_and_pointers);
    RUN(work_on_a_stream_of_the_program);
    RUN(transfers_and_the_default_stream);
    RUN(what_a_stream_refuses);
    RUN(a_pool_with_gpu_support);
    RUN(a_pool_that_grows);
    return DONE();
}
