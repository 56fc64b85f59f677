/* A kernel in CUDA C on a tensor of a pool, where it lies: nothing is copied, and nobody waits before the result is read.
 *
 *   cc cuda.c $(pkg-config --cflags --libs neuro_memory) -o cuda
 *
 * It needs nothing of CUDA to be built, and the compiler NVRTC to run: of the CUDA toolkit, or of pip install nvidia-cuda-nvrtc, where
 * NEURO_NVRTC names its folder. Without a CUDA device or NVRTC it says SKIPPED, or fails where NEURO_REQUIRE_CUDA is set.
 */
#include <neuro_memory.h>
#include <stdio.h>
#include <stdlib.h>

static const char source[] =
    "extern \"C\" __global__ void scale(float *x, float by, unsigned n) {\n"
    "    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;\n"
    "    if (i < n) x[i] *= by;\n"
    "}\n";

/* Ends the program with the library's own words where a call fails. */
static void must(neuro_status_t status) {
    if (status != NEURO_OK) {
        fprintf(stderr, "%s: %s\n", neuro_status_name(status), neuro_last_error());
        exit(1);
    }
}

/* Says why not if something is not there; fails where it is required. */
static int skipped(neuro_status_t status, const char *needs) {
    if (status == NEURO_UNAVAILABLE && getenv("NEURO_REQUIRE_CUDA") == NULL) {
        printf("SKIPPED: examples/c/cuda.c: %s%s\n", needs, neuro_last_error());
        return 1;
    }
    must(status);
    return 0;
}

int main(void) {
    neuro_device_t cuda = {NEURO_DEVICE_CUDA, 0}, cpu = {NEURO_DEVICE_CPU, 0};
    neuro_pool_t *pool;
    neuro_cuda_kernel_t *scale;
    if (skipped(neuro_pool_of_device(cuda, &pool), "needs hardware: ")
        || skipped(neuro_cuda_kernel_compile(cuda, source, "scale", NULL, &scale), "")) {
        return 0;
    }

    neuro_tensor_t *numbers, *there, *back;
    int64_t shape[] = {1000, 1000};
    must(neuro_tensor_empty(NULL, NEURO_DTYPE_FLOAT32, 2, shape, &numbers));
    must(neuro_tensor_fill_f64(numbers, 1.5));
    must(neuro_tensor_to_pool(numbers, pool, &there));

    size_t count = neuro_tensor_get_numel(there);
    neuro_cuda_grid_t grid = {.struct_size = sizeof grid};
    must(neuro_cuda_grid_for_elements(count, 256, &grid));
    const neuro_cuda_argument_t arguments[] = {
        {.kind = NEURO_CUDA_ARGUMENT_TENSOR, .tensor = there},
        {.kind = NEURO_CUDA_ARGUMENT_FLOAT, .real = 2},
        {.kind = NEURO_CUDA_ARGUMENT_UINT, .integer = (int64_t)count},
    };
    must(neuro_cuda_kernel_launch(scale, NULL, &grid, arguments, 3));

    must(neuro_tensor_to_device(there, cpu, &back)); /* behind the kernel */
    const float *values = neuro_tensor_get_const_data(back);
    for (size_t i = 0; i < count; i++) {
        if (values[i] != 3.0f) {
            fprintf(stderr, "element %zu is %g\n", i, values[i]);
            return 1;
        }
    }
    printf("1.5, doubled on cuda:0: %g\n", values[0]);
    must(neuro_tensor_release(numbers));
    must(neuro_tensor_release(there));
    must(neuro_tensor_release(back));
    must(neuro_cuda_kernel_release(scale));
    must(neuro_pool_release(pool));
    return 0;
}
