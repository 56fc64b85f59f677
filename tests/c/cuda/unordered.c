/* A program that is wrong, unless UNORDERED_WAITS is set: two streams write the same memory, and nothing orders them. As far as it can see all
 * is well. On the simulated driver its process ends with status 86 all the same: what that has found is its last word. */
#include "../cuda.h"

static void two_streams_write(void) {
    neuro_tensor_t *tensor = ramp(gpu);
    void *streams[2] = {NULL, NULL};
    uint64_t to = 0;
    CHECK(is(tensor, 0, 1)); /* and so it is there */
    CHECK_OK(neuro_cuda_get_pointer(tensor, &to));
    for (int i = 0; i < 2; i++) {
        CHECK(cu.create(&streams[i], 1) == 0);
    }
    CHECK(cu.fill(to, 1, COUNT, streams[0]) == 0);
    if (getenv("UNORDERED_WAITS") != NULL) {
        CHECK(cu.synchronize(streams[0]) == 0);
    }
    CHECK(cu.fill(to, 2, COUNT, streams[1]) == 0);
    for (int i = 0; i < 2; i++) {
        CHECK(cu.synchronize(streams[i]) == 0);
        CHECK(cu.destroy(streams[i]) == 0);
    }
    CHECK_OK(neuro_tensor_release(tensor));
}

int main(void) {
    if (!has_cuda("streams without order")) {
        return DONE();
    }
    CHECK(open_driver());
    RUN(two_streams_write);
    return DONE();
}
