/* An explicit shutdown of devices, with tensors alive and transfers under way, before a process ends as it likes. */

#include "check.h"

#include <neuro_memory.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static neuro_device_t gpu;
/* The process ends with it. */
static neuro_tensor_t *left;
static float back[100000];

static bool says_shut_down(neuro_status_t status) {
    return (status == NEURO_DEVICE_LOST || status == NEURO_UNAVAILABLE) && strstr(neuro_last_error(), "shut down") != NULL;
}

static void devices_are_refused_and_the_rest_goes_on(void) {
    neuro_tensor_t *here, *there, *none;
    neuro_transfer_t *transfer;
    CHECK_OK(neuro_tensor_zeros(NULL, NEURO_DTYPE_FLOAT32, 1, &(int64_t){100000}, &here));
    CHECK_OK(neuro_tensor_fill_f64(here, 2.5));
    CHECK_OK(neuro_tensor_to_device(here, gpu, &there));
    CHECK_OK(neuro_tensor_to_device_async(here, gpu, &transfer));
    CHECK_OK(neuro_shutdown());
    CHECK_OK(neuro_shutdown());

    CHECK(says_shut_down(neuro_tensor_to_device(there, (neuro_device_t){0}, &none)) && none == NULL);
    CHECK(says_shut_down(neuro_tensor_to_device(here, gpu, &none)) && none == NULL);
    CHECK(says_shut_down(neuro_tensor_copy_to_bytes(there, back, sizeof back)));
    /* It came in time, or did not. */
    neuro_status_t came = neuro_transfer_wait(transfer, &none);
    CHECK(came == NEURO_OK ? neuro_tensor_release(none) == NEURO_OK : says_shut_down(came));
    CHECK(neuro_device_get_count() == 0);

    CHECK_OK(neuro_transfer_release(transfer));
    CHECK_OK(neuro_tensor_release(there));
    const float *data = neuro_tensor_get_const_data(here);
    CHECK(data != NULL && data[99999] == 2.5f);
    CHECK_OK(neuro_tensor_release(here));
}

int main(void) {
    neuro_pool_t *pool;
    gpu = (neuro_device_t){.type = NEURO_DEVICE_VULKAN, .id = 0};
    if (!has_vulkan("shutdown of a Vulkan device")) {
        return DONE();
    }
    int64_t count = 1000;
    if (neuro_pool_of_device(gpu, &pool) != NEURO_OK || neuro_tensor_zeros(pool, NEURO_DTYPE_FLOAT32, 1, &count, &left) != NEURO_OK) {
        printf("FAILED to begin: %s\n", neuro_last_error());
        return 1;
    }
    RUN(devices_are_refused_and_the_rest_goes_on);
    if (getenv("NM_UNDER_ASAN") != NULL) {
        /* The driver is unloaded, and what it has left behind of its own would be taken for a leak. */
        _exit(DONE());
    }
    return DONE();
}
