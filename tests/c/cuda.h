/* What the tests of CUDA devices use: the calls of CUDA that a program makes itself, tensors with known elements, and work of its own. */
#ifndef CUDA_H
#define CUDA_H

#include "check.h"
#include <dlfcn.h>

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

static inline void *call(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (found == NULL) {
        printf("  the driver has no %s\n", name);
    }
    return found;
}

/* The device's context is current from here on, as in a program that uses CUDA. */
static inline int open_driver(void) {
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
static inline neuro_tensor_t *ramp(neuro_device_t device) {
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
static inline int is(const neuro_tensor_t *there, float first, float step) {
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

static inline int32_t fill(void *context, void *cu_stream) {
    fill_t *work = context;
    unsigned bits;
    memcpy(&bits, &work->value, sizeof bits);
    work->calls++;
    work->stream = cu_stream;
    return work->answer != 0 ? work->answer : cu.fill(work->to, bits, COUNT, cu_stream);
}

#endif
