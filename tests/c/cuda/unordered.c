/* A program that is wrong, unless it is told to wait: one stream copies to memory, and another from it, and nothing orders the two. It ends well
 * as far as it knows. On the simulated driver its process does not: what that finds is its last word (status 86).
 *
 *   unordered [wait] */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

#define BYTES 4096

/* A call of the driver's, by its name. */
#define CALL(name, ...) ((int (*)(__VA_ARGS__))find(name))

static void *library;

static void *find(const char *name) {
    void *found = dlsym(library, name);
    if (found == NULL) {
        printf("the driver has no %s\n", name);
    }
    return found;
}

int main(int count, char **words) {
    (void)words;
    library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library == NULL) {
        printf("there is no driver: %s\n", dlerror());
        return 1;
    }
    int device = 0, codes = 0;
    void *context = NULL, *streams[2] = {NULL, NULL}, *host = NULL;
    uint64_t from = 0, to = 0;
    codes |= CALL("cuInit", unsigned)(0);
    codes |= CALL("cuDeviceGet", int *, int)(&device, 0);
    codes |= CALL("cuDevicePrimaryCtxRetain", void **, int)(&context, device);
    codes |= CALL("cuCtxSetCurrent", void *)(context);
    for (int i = 0; i < 2; i++) {
        codes |= CALL("cuStreamCreate", void **, unsigned)(&streams[i], 1);
    }
    codes |= CALL("cuMemHostAlloc", void **, size_t, unsigned)(&host, BYTES, 0);
    codes |= CALL("cuMemAlloc_v2", uint64_t *, size_t)(&from, BYTES);
    codes |= CALL("cuMemAlloc_v2", uint64_t *, size_t)(&to, BYTES);
    for (int i = 0; i < BYTES && codes == 0; i++) {
        ((char *)host)[i] = 1;
    }
    codes |= CALL("cuMemcpyHtoDAsync_v2", uint64_t, const void *, size_t, void *)(from, host, BYTES, streams[0]);
    if (count > 1) {
        codes |= CALL("cuStreamSynchronize", void *)(streams[0]);
    }
    codes |= CALL("cuMemcpyDtoDAsync_v2", uint64_t, uint64_t, size_t, void *)(to, from, BYTES, streams[1]);
    for (int i = 0; i < 2; i++) {
        codes |= CALL("cuStreamSynchronize", void *)(streams[i]);
    }
    printf("the driver's codes: %d\n", codes);
    return codes != 0;
}
