/* CUDA's own names for what tensors lie in, streams of the program's own, and kernels on tensors. What is wrong without a device is
 * refused everywhere; the rest needs one, and is SKIPPED without unless NEURO_REQUIRE_CUDA is set. */
#include "check.h"
#include <dlfcn.h>
#include <stddef.h>

#define SHAPE(...) (sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__}
#define COUNT 1000

static const neuro_device_t gpu = {NEURO_DEVICE_CUDA, 0};
static const neuro_device_t cpu = {NEURO_DEVICE_CPU, 0};

/* The calls of CUDA that this program makes itself. */
static struct {
    int (*set_context)(void *);
    int (*create)(void **, unsigned);
    int (*destroy)(void *);
    int (*synchronize)(void *);
    int (*fill)(uint64_t, unsigned, size_t, void *);
} cu;

static void *call(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (found == NULL) {
        printf("  the driver has no %s\n", name);
    }
    return found;
}

/* The device's context is current from here on, as in a program that uses CUDA. */
static int open_driver(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    neuro_cuda_handles_t handles = {.struct_size = sizeof handles};
    if (library == NULL || neuro_cuda_get_handles(gpu, &handles) != NEURO_OK) {
        return 0;
    }
    *(void **)&cu.set_context = call(library, "cuCtxSetCurrent");
    *(void **)&cu.create = call(library, "cuStreamCreate");
    *(void **)&cu.destroy = call(library, "cuStreamDestroy_v2");
    *(void **)&cu.synchronize = call(library, "cuStreamSynchronize");
    *(void **)&cu.fill = call(library, "cuMemsetD32Async");
    return cu.set_context && cu.create && cu.destroy && cu.synchronize && cu.fill && cu.set_context(handles.context) == 0;
}

/* 0, 1, 2, … on a device. */
static neuro_tensor_t *ramp(neuro_device_t device) {
    neuro_tensor_t *tensor = NULL, *there = NULL;
    if (neuro_tensor_empty(NULL, NEURO_DTYPE_FLOAT32, SHAPE(COUNT), &tensor) == NEURO_OK) {
        float *values = neuro_tensor_get_data(tensor);
        for (int i = 0; i < COUNT; i++) {
            values[i] = (float)i;
        }
        neuro_tensor_to_device(tensor, device, &there);
        neuro_tensor_release(tensor);
    }
    return there;
}

/* Whether element i is first + step * i. */
static int is(const neuro_tensor_t *there, float first, float step) {
    neuro_tensor_t *back = NULL;
    if (neuro_tensor_to_device(there, cpu, &back) != NEURO_OK) {
        return 0;
    }
    const float *values = neuro_tensor_get_const_data(back);
    int right = 1;
    for (int i = 0; i < COUNT; i++) {
        right &= values[i] == first + step * (float)i;
    }
    neuro_tensor_release(back);
    return right;
}

/* Work of the program's: fills a tensor. */
typedef struct {
    int calls, answer;
    uint64_t to;
    float value;
    void *stream;
} fill_t;

static int32_t fill(void *context, void *cu_stream) {
    fill_t *work = context;
    unsigned bits;
    memcpy(&bits, &work->value, sizeof bits);
    work->calls++;
    work->stream = cu_stream;
    return work->answer != 0 ? work->answer : cu.fill(work->to, bits, COUNT, cu_stream);
}

#define SUBMIT(stream, tensor, access, work) \
    neuro_cuda_stream_submit(stream, (const neuro_tensor_t *const[]){tensor}, (const uint32_t[]){access}, 1, fill, work)

/* Two kernels, as a compiler writes them. */
static const char ptx[] =
    ".version 6.4\n.target sm_52\n.address_size 64\n"
    ".visible .entry twice(.param .u64 twice_x, .param .u32 twice_n)\n"
    "{\n"
    "    .reg .pred %p<2>;\n    .reg .b32 %r<6>;\n    .reg .b64 %rd<5>;\n    .reg .f32 %f<3>;\n"
    "    ld.param.u64 %rd1, [twice_x];\n    ld.param.u32 %r1, [twice_n];\n"
    "    mov.u32 %r2, %ctaid.x;\n    mov.u32 %r3, %ntid.x;\n    mov.u32 %r4, %tid.x;\n"
    "    mad.lo.s32 %r5, %r2, %r3, %r4;\n    setp.ge.u32 %p1, %r5, %r1;\n    @%p1 bra $END;\n"
    "    cvta.to.global.u64 %rd2, %rd1;\n    mul.wide.u32 %rd3, %r5, 4;\n    add.s64 %rd4, %rd2, %rd3;\n"
    "    ld.global.f32 %f1, [%rd4];\n    add.f32 %f2, %f1, %f1;\n    st.global.f32 [%rd4], %f2;\n"
    "$END:\n    ret;\n}\n"
    ".visible .entry set(.param .u64 set_x, .param .f32 set_value, .param .u32 set_n)\n"
    "{\n"
    "    .reg .pred %p<2>;\n    .reg .b32 %r<6>;\n    .reg .b64 %rd<5>;\n    .reg .f32 %f<2>;\n"
    "    ld.param.u64 %rd1, [set_x];\n    ld.param.f32 %f1, [set_value];\n    ld.param.u32 %r1, [set_n];\n"
    "    mov.u32 %r2, %ctaid.x;\n    mov.u32 %r3, %ntid.x;\n    mov.u32 %r4, %tid.x;\n"
    "    mad.lo.s32 %r5, %r2, %r3, %r4;\n    setp.ge.u32 %p1, %r5, %r1;\n    @%p1 bra $END2;\n"
    "    cvta.to.global.u64 %rd2, %rd1;\n    mul.wide.u32 %rd3, %r5, 4;\n    add.s64 %rd4, %rd2, %rd3;\n"
    "    st.global.f32 [%rd4], %f1;\n"
    "$END2:\n    ret;\n}\n";

#define TENSOR(x) {.kind = NEURO_CUDA_ARGUMENT_TENSOR, .tensor = x}
#define INT(x) {.kind = NEURO_CUDA_ARGUMENT_INT, .integer = x}
#define UINT(x) {.kind = NEURO_CUDA_ARGUMENT_UINT, .integer = (int64_t)(x)}
#define FLOAT(x) {.kind = NEURO_CUDA_ARGUMENT_FLOAT, .real = x}
/* Launches with these arguments. */
#define LAUNCH(kernel, stream, grid, ...)                                    \
    neuro_cuda_kernel_launch(kernel, stream, grid, (const neuro_cuda_argument_t[]){__VA_ARGS__}, \
                             sizeof((neuro_cuda_argument_t[]){__VA_ARGS__}) / sizeof(neuro_cuda_argument_t))

static void what_is_refused_everywhere(void) {
    neuro_tensor_t *here = ramp(cpu), *made = here;
    neuro_cuda_handles_t handles = {.struct_size = sizeof handles};
    neuro_cuda_stream_t *stream = (neuro_cuda_stream_t *)&handles;
    neuro_cuda_kernel_t *kernel = (neuro_cuda_kernel_t *)&handles;
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

    neuro_cuda_grid_t grid = {.struct_size = sizeof grid};
    CHECK_FAILS(neuro_cuda_kernel_launch(kernel, NULL, &grid, NULL, 0), NEURO_INVALID_ARGUMENT, "no live neuro_cuda_kernel_t");
    CHECK_FAILS(neuro_cuda_kernel_retain(kernel), NEURO_INVALID_ARGUMENT, "no live neuro_cuda_kernel_t");
    CHECK_FAILS(neuro_cuda_kernel_release(kernel), NEURO_INVALID_FREE, "no live neuro_cuda_kernel_t");
    CHECK_OK(neuro_cuda_kernel_release(NULL));
    CHECK(neuro_cuda_kernel_get_log(kernel, NULL, 0) == 0 && neuro_last_status() == NEURO_INVALID_ARGUMENT);
    neuro_clear_error();
    CHECK(neuro_cuda_kernel_get_signature(NULL, NULL, 0) == 0 && neuro_last_status() == NEURO_INVALID_ARGUMENT);
    neuro_cuda_kernel_t *other = kernel;
    CHECK_FAILS(neuro_cuda_kernel_find(kernel, "f", NULL, &other), NEURO_INVALID_ARGUMENT, "no live neuro_cuda_kernel_t");
    CHECK(other == NULL);
    CHECK_FAILS(neuro_cuda_kernel_compile(gpu, NULL, "f", NULL, &kernel), NEURO_INVALID_ARGUMENT, "source is NULL");
    CHECK(kernel == NULL);
    CHECK_FAILS(neuro_cuda_kernel_compile(gpu, "", NULL, NULL, &kernel), NEURO_INVALID_ARGUMENT, "name is NULL");
    CHECK_FAILS(neuro_cuda_kernel_compile(gpu, "", "f", NULL, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_cuda_kernel_compile(cpu, "", "f", NULL, &kernel), NEURO_INVALID_ARGUMENT, "cpu is no CUDA device");
    neuro_cuda_compile_options_t options = {.struct_size = 5};
    CHECK_FAILS(neuro_cuda_kernel_compile(gpu, "", "f", &options, &kernel), NEURO_INVALID_ARGUMENT, "struct_size is 5");
    options = (neuro_cuda_compile_options_t){.struct_size = sizeof options, .option_count = 1};
    CHECK_FAILS(neuro_cuda_kernel_compile(gpu, "", "f", &options, &kernel), NEURO_INVALID_ARGUMENT, "options is NULL");
    options.options = (const char *const[]){NULL};
    CHECK_FAILS(neuro_cuda_kernel_compile(gpu, "", "f", &options, &kernel), NEURO_INVALID_ARGUMENT, "an option is NULL");
    options = (neuro_cuda_compile_options_t){.struct_size = sizeof options, .instance_count = 1};
    CHECK_FAILS(neuro_cuda_kernel_compile(gpu, "", "f", &options, &kernel), NEURO_INVALID_ARGUMENT, "instances is NULL");
    options.instances = (const char *const[]){"\xff"};
    CHECK_FAILS(neuro_cuda_kernel_compile(gpu, "", "f", &options, &kernel), NEURO_INVALID_ARGUMENT, "is not UTF-8");
    CHECK_FAILS(neuro_cuda_kernel_load(gpu, NULL, 8, "f", "", &kernel), NEURO_INVALID_ARGUMENT, "image is NULL");
    CHECK_FAILS(neuro_cuda_kernel_load(gpu, ptx, sizeof ptx, NULL, "", &kernel), NEURO_INVALID_ARGUMENT, "name is NULL");
    CHECK_FAILS(neuro_cuda_kernel_load(gpu, ptx, sizeof ptx, "f", NULL, &kernel), NEURO_INVALID_ARGUMENT, "parameters is NULL");
    CHECK_FAILS(neuro_cuda_kernel_load(cpu, ptx, sizeof ptx, "f", "", &kernel), NEURO_INVALID_ARGUMENT, "cpu is no CUDA device");
    CHECK_FAILS(neuro_cuda_add_nvrtc_path(NULL), NEURO_INVALID_ARGUMENT, "path is NULL");
    CHECK_FAILS(neuro_cuda_add_nvrtc_path(""), NEURO_INVALID_ARGUMENT, "path is empty");
    CHECK_OK(neuro_cuda_add_nvrtc_path("/nonexistent/nvrtc"));
    CHECK_OK(neuro_tensor_release(here));
}

static void grids(void) {
    neuro_cuda_grid_t grid = {.struct_size = sizeof grid, .shared_bytes = 7};
    CHECK_OK(neuro_cuda_grid_for_elements(1000, 256, &grid));
    CHECK(grid.blocks[0] == 4 && grid.threads[0] == 256 && grid.shared_bytes == 0);
    CHECK(grid.blocks[1] == 1 && grid.blocks[2] == 1 && grid.threads[1] == 1 && grid.threads[2] == 1);
    CHECK_OK(neuro_cuda_grid_for_elements(0, 1, &grid));
    CHECK(grid.blocks[0] == 1);
    CHECK_FAILS(neuro_cuda_grid_for_elements(1, 1025, &grid), NEURO_INVALID_ARGUMENT, "1025 are asked for");
    CHECK(grid.blocks[0] == 0 && grid.threads[0] == 0);
    CHECK_FAILS(neuro_cuda_grid_for_elements(1, 1, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
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

static void a_kernel_of_the_program(void) {
    neuro_cuda_kernel_t *twice = NULL, *set = NULL;
    neuro_cuda_stream_t *stream = NULL;
    void *raw = NULL;
    CHECK_OK(neuro_cuda_kernel_load(gpu, ptx, sizeof ptx, "twice", "float *x, unsigned n", &twice));
    CHECK_OK(neuro_cuda_kernel_find(twice, "set", "float *x, float value, unsigned n", &set));
    char text[64];
    CHECK(neuro_cuda_kernel_get_signature(twice, text, sizeof text) == strlen("twice(float* x, unsigned int n)"));
    CHECK(strcmp(text, "twice(float* x, unsigned int n)") == 0);
    CHECK(neuro_cuda_kernel_get_log(twice, text, sizeof text) == 0 && text[0] == '\0');

    neuro_tensor_t *tensor = ramp(gpu);
    neuro_cuda_grid_t grid = {.struct_size = sizeof grid};
    CHECK_OK(neuro_cuda_grid_for_elements(COUNT, 128, &grid));
    CHECK_OK(LAUNCH(twice, NULL, &grid, TENSOR(tensor), UINT(COUNT)));
    CHECK(is(tensor, 0, 2));
    /* On a stream, behind that; axes that are not said are 1. */
    neuro_cuda_grid_t plain = {.struct_size = sizeof plain, .blocks = {4}, .threads = {256}};
    CHECK(cu.create(&raw, 1) == 0);
    CHECK_OK(neuro_cuda_stream_open(gpu, raw, &stream));
    CHECK_OK(LAUNCH(twice, stream, &plain, TENSOR(tensor), INT(COUNT)));
    CHECK_OK(LAUNCH(twice, NULL, &plain, TENSOR(tensor), INT(COUNT)));
    CHECK(is(tensor, 0, 8));
    /* What goes while work is under way stays until that is done. */
    CHECK_OK(LAUNCH(set, stream, &plain, TENSOR(tensor), FLOAT(0.25), UINT(COUNT)));
    CHECK_OK(neuro_cuda_kernel_release(set));
    CHECK_OK(LAUNCH(twice, stream, &plain, TENSOR(tensor), UINT(COUNT)));
    CHECK_OK(neuro_cuda_kernel_release(twice));
    CHECK_OK(neuro_cuda_stream_release(stream));
    CHECK(is(tensor, 0.5f, 0));
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK(cu.synchronize(raw) == 0 && cu.destroy(raw) == 0);
}

static void what_a_launch_refuses(void) {
    neuro_cuda_kernel_t *kernel = NULL, *out = (neuro_cuda_kernel_t *)&kernel;
    CHECK_FAILS(neuro_cuda_kernel_load(gpu, "", 1, "twice", "", &out), NEURO_INVALID_ARGUMENT, "nothing in them");
    CHECK_FAILS(neuro_cuda_kernel_load(gpu, "no image", 9, "twice", "", &out), NEURO_DRIVER, "cuModuleLoadDataEx");
    CHECK_FAILS(neuro_cuda_kernel_load(gpu, ptx, sizeof ptx, "thrice", "float *x", &out), NEURO_DRIVER, "kernel thrice");
    CHECK_FAILS(neuro_cuda_kernel_load(gpu, ptx, sizeof ptx, "twice", "struct s x", &out), NEURO_INVALID_ARGUMENT, "struct");
    CHECK(out == NULL);
    CHECK_OK(neuro_cuda_kernel_load(gpu, ptx, sizeof ptx, "twice", "float *x, unsigned n", &kernel));
    CHECK_FAILS(neuro_cuda_kernel_find(kernel, "set", NULL, &out), NEURO_INVALID_ARGUMENT, "not compiled here");
    CHECK_FAILS(neuro_cuda_kernel_find(kernel, NULL, NULL, &out), NEURO_INVALID_ARGUMENT, "name is NULL");

    neuro_tensor_t *here = ramp(cpu), *there = ramp(gpu), *bytes = NULL, *gaps = NULL;
    CHECK_OK(neuro_cuda_grid_for_elements(1, 1, &(neuro_cuda_grid_t){.struct_size = sizeof(neuro_cuda_grid_t)}));
    neuro_cuda_grid_t grid = {.struct_size = sizeof grid, .blocks = {4}, .threads = {256}}, bad = grid;
    CHECK_OK(neuro_tensor_slice(there, 0, 0, COUNT, 2, &gaps));
    neuro_tensor_t *small = NULL;
    CHECK_OK(neuro_tensor_zeros(NULL, NEURO_DTYPE_UINT8, SHAPE(8), &small));
    CHECK_OK(neuro_tensor_to_device(small, gpu, &bytes));
    const struct {
        neuro_cuda_argument_t first, second;
        neuro_status_t status;
        const char *words;
    } wrong[] = {
        {TENSOR(here), UINT(1), NEURO_INVALID_ARGUMENT, "lies on cpu"},
        {TENSOR(NULL), UINT(1), NEURO_INVALID_ARGUMENT, "is NULL (argument 1)"},
        {TENSOR((neuro_tensor_t *)&bad), UINT(1), NEURO_INVALID_ARGUMENT, "no live neuro_tensor_t"},
        {TENSOR(bytes), UINT(1), NEURO_BAD_DTYPE, "float* x"},
        {TENSOR(gaps), UINT(1), NEURO_NOT_CONTIGUOUS, "float* x"},
        {TENSOR(there), INT(-1), NEURO_INVALID_ARGUMENT, "unsigned int n"},
        {TENSOR(there), FLOAT(0.5), NEURO_INVALID_ARGUMENT, "0.5"},
        {TENSOR(there), UINT(UINT64_MAX), NEURO_INVALID_ARGUMENT, "18446744073709551615"},
        {TENSOR(there), {.kind = NEURO_CUDA_ARGUMENT_COMPLEX, .real = 1, .imaginary = 1}, NEURO_INVALID_ARGUMENT, "unsigned int n"},
        {TENSOR(there), TENSOR(there), NEURO_INVALID_ARGUMENT, "where a number"},
        {UINT(1), UINT(1), NEURO_INVALID_ARGUMENT, "where a tensor"},
        {TENSOR(there), {.kind = 0}, NEURO_INVALID_ARGUMENT, "argument 2: kind 0 is unknown"},
        {TENSOR(there), {.kind = 6}, NEURO_INVALID_ARGUMENT, "argument 2: kind 6 is unknown"},
        {TENSOR(there), {.kind = 2, .reserved = 4}, NEURO_INVALID_ARGUMENT, "reserved is 4"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK_FAILS(LAUNCH(kernel, NULL, &grid, wrong[i].first, wrong[i].second), wrong[i].status, wrong[i].words);
    }
    CHECK_FAILS(LAUNCH(kernel, NULL, &grid, TENSOR(there)), NEURO_INVALID_ARGUMENT, "1 arguments are given");
    CHECK_FAILS(neuro_cuda_kernel_launch(kernel, NULL, &grid, NULL, 2), NEURO_INVALID_ARGUMENT, "arguments is NULL");
    CHECK_FAILS(LAUNCH(kernel, NULL, NULL, TENSOR(there), UINT(1)), NEURO_INVALID_ARGUMENT, "grid is NULL");
    CHECK_FAILS(LAUNCH(kernel, (neuro_cuda_stream_t *)&bad, &grid, TENSOR(there), UINT(1)), NEURO_INVALID_ARGUMENT,
                "no live neuro_cuda_stream_t");
    bad.blocks[0] = 0;
    CHECK_FAILS(LAUNCH(kernel, NULL, &bad, TENSOR(there), UINT(1)), NEURO_INVALID_ARGUMENT, "along x, and 0");
    bad = grid;
    bad.threads[0] = 1025;
    CHECK_FAILS(LAUNCH(kernel, NULL, &bad, TENSOR(there), UINT(1)), NEURO_INVALID_ARGUMENT, "1025 are asked for");
    bad = grid;
    bad.shared_bytes = (uint64_t)1 << 32;
    CHECK_FAILS(LAUNCH(kernel, NULL, &bad, TENSOR(there), UINT(1)), NEURO_INVALID_ARGUMENT, "4294967296 B of shared memory");
    bad.struct_size = 1;
    CHECK_FAILS(LAUNCH(kernel, NULL, &bad, TENSOR(there), UINT(1)), NEURO_INVALID_ARGUMENT, "struct_size is 1");
    CHECK(is(there, 0, 1));
    CHECK_OK(neuro_tensor_release(here));
    CHECK_OK(neuro_tensor_release(gaps));
    CHECK_OK(neuro_tensor_release(small));
    CHECK_OK(neuro_tensor_release(bytes));
    CHECK_OK(neuro_tensor_release(there));
    CHECK_OK(neuro_cuda_kernel_release(kernel));
}

/* CUDA C, where its compiler is found. */
static void a_kernel_that_is_compiled(void) {
    static const char source[] =
        "template <typename T> __global__ void add(T *x, T by, unsigned n) {\n"
        "    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;\n"
        "    if (i < n) x[i] += by * SCALE;\n"
        "}\n";
    const char *const option[] = {"-DSCALE=2"}, *const instance[] = {"add<float>"};
    neuro_cuda_compile_options_t options = {
        .struct_size = sizeof options, .source_name = "add.cu", .options = option, .option_count = 1,
        .instances = instance, .instance_count = 1, .parameters = "float *x, float by, unsigned n"};
    neuro_cuda_kernel_t *kernel = NULL;
    neuro_status_t status = neuro_cuda_kernel_compile(gpu, source, "add<float>", &options, &kernel);
    if (status == NEURO_UNAVAILABLE && getenv("NEURO_REQUIRE_NVRTC") == NULL) {
        printf("SKIPPED: kernels in CUDA C: %s\n", neuro_last_error());
        return;
    }
    CHECK_OK(status);
    neuro_tensor_t *tensor = ramp(gpu);
    neuro_cuda_grid_t grid = {.struct_size = sizeof grid};
    CHECK_OK(neuro_cuda_grid_for_elements(COUNT, 256, &grid));
    CHECK_OK(LAUNCH(kernel, NULL, &grid, TENSOR(tensor), FLOAT(2), UINT(COUNT)));
    CHECK(is(tensor, 4, 1));
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_OK(neuro_cuda_kernel_release(kernel));
    options = (neuro_cuda_compile_options_t){.struct_size = sizeof options, .source_name = "wrong.cu"};
    CHECK_FAILS(neuro_cuda_kernel_compile(gpu, "__global__ void f() { no_such_thing(); }", "f", &options, &kernel),
                NEURO_INVALID_ARGUMENT, "wrong.cu(1)");
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

int main(void) {
    RUN(what_is_refused_everywhere);
    RUN(grids);
    if (!has_cuda("CUDA's handles, streams and kernels")) {
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
    RUN(a_kernel_of_the_program);
    RUN(what_a_launch_refuses);
    RUN(a_kernel_that_is_compiled);
    RUN(a_pool_with_gpu_support);
    return DONE();
}
