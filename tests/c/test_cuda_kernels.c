/* Kernels of the program's own on tensors. What is wrong without a device is refused everywhere; the rest needs one, and is SKIPPED
 * without unless NEURO_REQUIRE_CUDA is set. */
#include "cuda.h"
#include <pthread.h>

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
    neuro_cuda_grid_t grid = {.struct_size = sizeof grid};
    neuro_cuda_kernel_t *kernel = (neuro_cuda_kernel_t *)&grid;
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

static neuro_cuda_kernel_t *shared_kernel;

/* Launches on tensors of its own; NULL where all came out right. */
static void *launch_again_and_again(void *wrong) {
    for (int round = 0; round < 20; round++) {
        neuro_tensor_t *tensor = ramp(gpu);
        neuro_cuda_grid_t grid = {.struct_size = sizeof grid, .blocks = {4}, .threads = {256}};
        int right = 1;
        for (int i = 0; i < 3; i++) {
            right &= LAUNCH(shared_kernel, NULL, &grid, TENSOR(tensor), UINT(COUNT)) == NEURO_OK;
        }
        right &= is(tensor, 0, 8);
        neuro_tensor_release(tensor);
        if (!right) {
            return wrong;
        }
    }
    return NULL;
}

static void launches_from_many_threads(void) {
    pthread_t threads[4];
    void *wrong = NULL, *said;
    CHECK_OK(neuro_cuda_kernel_load(gpu, ptx, sizeof ptx, "twice", "float *x, unsigned n", &shared_kernel));
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_create(&threads[i], NULL, launch_again_and_again, threads) == 0);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_join(threads[i], &said) == 0);
        wrong = said != NULL ? said : wrong;
    }
    CHECK(wrong == NULL);
    CHECK_OK(neuro_cuda_kernel_release(shared_kernel));
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

int main(void) {
    RUN(what_is_refused_everywhere);
    RUN(grids);
    if (!has_cuda("kernels on CUDA tensors")) {
        return DONE();
    }
    if (!open_driver()) {
        printf("FAILED cuda:0 cannot be opened: %s\n", neuro_last_error());
        return 1;
    }
    RUN(a_kernel_of_the_program);
    RUN(launches_from_many_threads);
    RUN(what_a_launch_refuses);
    RUN(a_kernel_that_is_compiled);
    return DONE();
}
