/* Transfers: tensors on their way while the caller goes on, and memory that both sides reach where it lies. Without a Vulkan device
 * the parts that need one are SKIPPED, unless NEURO_REQUIRE_VULKAN is set. */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const neuro_device_t cpu = {NEURO_DEVICE_CPU, 0};
static const neuro_device_t gpu = {NEURO_DEVICE_VULKAN, 0};
static const char *program;

static int slow(void) {
    return getenv("NM_UNDER_VALGRIND") != NULL;
}

static unsigned char byte_at(size_t i, unsigned seed) {
    return (unsigned char)(i * 31 + i / 251 + seed);
}

/* A tensor of the host with bytes that no mistake by a whole number of anything leaves as they were. */
static neuro_tensor_t *pattern(neuro_pool_t *pool, size_t bytes, unsigned seed) {
    neuro_tensor_t *tensor = NULL;
    if (neuro_tensor_empty(pool, NEURO_DTYPE_UINT8, 1, (int64_t[]){(int64_t)bytes}, &tensor) == NEURO_OK) {
        unsigned char *all = neuro_tensor_get_data(tensor);
        for (size_t i = 0; i < bytes; i++) {
            all[i] = byte_at(i, seed);
        }
    }
    return tensor;
}

static int holds(const neuro_tensor_t *tensor, size_t bytes, unsigned seed) {
    const unsigned char *all = neuro_tensor_get_const_data(tensor);
    if (neuro_tensor_get_nbytes(tensor) != bytes || (all == NULL && bytes > 0)) {
        return 0;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (all[i] != byte_at(i, seed)) {
            return 0;
        }
    }
    return 1;
}

static void a_moment(void) {
    nanosleep(&(struct timespec){0, 5000000}, NULL);
}

/* What callbacks were told. */
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t came;
    unsigned calls;
    neuro_status_t status, said;
    neuro_tensor_t *tensor;
    char words[200];
} heard_t;

#define NOTHING_HEARD {.lock = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER}

static void hear(void *context, neuro_status_t status, neuro_tensor_t *tensor) {
    heard_t *heard = context;
    pthread_mutex_lock(&heard->lock);
    heard->status = status;
    if (status != NEURO_OK) {
        heard->said = neuro_last_status();
        strncpy(heard->words, neuro_last_error(), sizeof heard->words - 1);
    }
    if (heard->tensor != NULL) {
        neuro_tensor_release(heard->tensor);
    }
    heard->tensor = tensor;
    heard->calls++;
    pthread_cond_signal(&heard->came);
    pthread_mutex_unlock(&heard->lock);
}

static void wait_for_calls(heard_t *heard, unsigned calls) {
    pthread_mutex_lock(&heard->lock);
    while (heard->calls < calls) {
        pthread_cond_wait(&heard->came, &heard->lock);
    }
    pthread_mutex_unlock(&heard->lock);
}

static void wrong_arguments_are_refused(void) {
    neuro_tensor_t *here = pattern(NULL, 10, 0), *tensor = here;
    neuro_transfer_t *transfer = (neuro_transfer_t *)here;
    heard_t heard = NOTHING_HEARD;
    bool done = true;
    CHECK_FAILS(neuro_tensor_to_device_async(NULL, cpu, &transfer), NEURO_INVALID_ARGUMENT, "the neuro_tensor_t is NULL");
    CHECK(transfer == NULL);
    CHECK_FAILS(neuro_tensor_to_device_async(here, cpu, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_tensor_to_device_async(here, (neuro_device_t){3, 0}, &transfer), NEURO_INVALID_ARGUMENT, "device type 3");
    CHECK_FAILS(neuro_tensor_to_device_async(here, (neuro_device_t){NEURO_DEVICE_CUDA, 998}, &transfer), NEURO_UNAVAILABLE, "cuda:998");
    CHECK_FAILS(neuro_tensor_to_pool_async(NULL, NULL, &transfer), NEURO_INVALID_ARGUMENT, "is NULL");
    CHECK_FAILS(neuro_tensor_to_pool_async(here, (neuro_pool_t *)here, &transfer), NEURO_INVALID_ARGUMENT, "no live neuro_pool_t");
    CHECK_FAILS(neuro_transfer_wait(NULL, &tensor), NEURO_INVALID_ARGUMENT, "the neuro_transfer_t is NULL");
    CHECK(tensor == NULL);
    CHECK_FAILS(neuro_transfer_wait((neuro_transfer_t *)here, &tensor), NEURO_INVALID_ARGUMENT, "no live neuro_transfer_t");
    CHECK_FAILS(neuro_transfer_is_done(NULL, &done), NEURO_INVALID_ARGUMENT, "is NULL");
    CHECK(!done);
    CHECK_FAILS(neuro_transfer_then(NULL, hear, &heard), NEURO_INVALID_ARGUMENT, "is NULL");
    CHECK(neuro_transfer_retain(NULL) == NEURO_INVALID_ARGUMENT && neuro_tensor_synchronize(NULL) == NEURO_INVALID_ARGUMENT);
    CHECK_OK(neuro_transfer_release(NULL));
    CHECK_FAILS(neuro_tensor_map(NULL, &tensor), NEURO_INVALID_ARGUMENT, "is NULL");
    CHECK_FAILS(neuro_tensor_map(here, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK(heard.calls == 0);
    CHECK_OK(neuro_tensor_release(here));
}

/* Where there is nothing to do it is done. */
static void on_the_host(void) {
    neuro_tensor_t *here = pattern(NULL, 1000, 1), *same, *again;
    neuro_transfer_t *transfer;
    heard_t heard = NOTHING_HEARD;
    bool done;
    CHECK_OK(neuro_tensor_to_device_async(here, cpu, &transfer));
    CHECK_OK(neuro_transfer_is_done(transfer, &done));
    CHECK(done);
    CHECK_FAILS(neuro_transfer_is_done(transfer, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_transfer_wait(transfer, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_transfer_then(transfer, NULL, &heard), NEURO_INVALID_ARGUMENT, "callback is NULL");
    CHECK_OK(neuro_transfer_wait(transfer, &same));
    CHECK_OK(neuro_transfer_wait(transfer, &again));
    CHECK(same != again && neuro_tensor_get_data(same) == neuro_tensor_get_data(here));
    CHECK_OK(neuro_transfer_then(transfer, hear, &heard));
    CHECK(heard.calls == 1 && heard.status == NEURO_OK && neuro_tensor_get_data(heard.tensor) == neuro_tensor_get_data(here));
    CHECK_OK(neuro_transfer_retain(transfer));
    CHECK_OK(neuro_transfer_release(transfer));
    CHECK_OK(neuro_transfer_release(transfer));
    CHECK_FAILS(neuro_transfer_release(transfer), NEURO_INVALID_FREE, "no live neuro_transfer_t");
    CHECK_OK(neuro_tensor_release(again));
    CHECK_FAILS(neuro_transfer_wait(transfer, &again), NEURO_INVALID_ARGUMENT, "no live neuro_transfer_t");
    CHECK(again == NULL);
    CHECK_OK(neuro_tensor_release(heard.tensor));
    CHECK_OK(neuro_tensor_release(same));
    CHECK(holds(here, 1000, 1));
    CHECK_OK(neuro_tensor_to_pool_async(here, NULL, &transfer));
    CHECK_OK(neuro_transfer_wait(transfer, &same));
    CHECK(neuro_tensor_get_data(same) != neuro_tensor_get_data(here) && holds(same, 1000, 1));
    CHECK_OK(neuro_transfer_release(transfer));
    CHECK_OK(neuro_tensor_synchronize(here));
    CHECK_OK(neuro_tensor_map(here, &again));
    CHECK(neuro_tensor_get_data(again) == neuro_tensor_get_data(here));
    CHECK_OK(neuro_tensor_release(again));
    CHECK_OK(neuro_tensor_release(same));
    CHECK_OK(neuro_tensor_release(here));
}

static void pools_say_which_devices_reach_them(void) {
    neuro_pool_options_t options = {.struct_size = sizeof options, .flags = NEURO_POOL_GPU_SUPPORT};
    neuro_pool_t *pool;
    char names[64] = "old", cut[7];
    neuro_clear_error();
    CHECK(neuro_pool_get_gpu_support(NULL, names, sizeof names) == 0 && names[0] == '\0');
    CHECK(neuro_last_status() == NEURO_UNAVAILABLE && strstr(neuro_last_error(), "gpu_support") != NULL);
    CHECK_OK(neuro_pool_create(&options, &pool));
    neuro_clear_error();
    size_t length = neuro_pool_get_gpu_support(pool, names, sizeof names);
    CHECK(strlen(names) == length && (length > 0) == (neuro_last_status() == NEURO_OK));
    CHECK(length > 0 || (neuro_last_status() == NEURO_UNAVAILABLE && strstr(neuro_last_error(), "vulkan") != NULL));
    if (length > 0) {
        CHECK((strstr(names, "vulkan:0") || strstr(names, "cuda:0")) && neuro_pool_get_gpu_support(pool, NULL, 0) == length);
        CHECK(neuro_pool_get_gpu_support(pool, cut, sizeof cut) == length && strncmp(cut, names, sizeof cut - 1) == 0);
        neuro_clear_error();
        CHECK(neuro_pool_get_gpu_support(pool, NULL, 5) == 0 && neuro_last_status() == NEURO_INVALID_ARGUMENT);
    }
    CHECK_OK(neuro_pool_release(pool));
    neuro_clear_error();
    CHECK(neuro_pool_get_gpu_support(pool, names, sizeof names) == 0 && neuro_last_status() == NEURO_INVALID_ARGUMENT);
    options.flags = 64;
    CHECK_FAILS(neuro_pool_create(&options, &pool), NEURO_INVALID_ARGUMENT, "unknown flags 0x40");
}

static void there_and_back(void) {
    static const size_t lengths[] = {0, 1, 2, 3, 5, 63, 64, 65, 255, 257, 4095, 4097, 65537, 1000003, (1 << 20) + 1, (9 << 20) + 3};
    neuro_tensor_t *there, *again, *back;
    neuro_transfer_t *up, *down;
    bool done;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths - (slow() ? 2 : 0); i++) {
        size_t bytes = lengths[i];
        neuro_tensor_t *here = pattern(NULL, bytes, (unsigned)i);
        CHECK_OK(neuro_tensor_to_device_async(here, gpu, &up));
        CHECK_OK(neuro_tensor_release(here));
        CHECK_OK(neuro_transfer_wait(up, &there));
        CHECK_OK(neuro_transfer_is_done(up, &done));
        CHECK(done && neuro_tensor_get_device(there).type == NEURO_DEVICE_VULKAN);
        CHECK_OK(neuro_transfer_wait(up, &again));
        CHECK_OK(neuro_transfer_release(up));
        CHECK_OK(neuro_tensor_release(there));
        CHECK_OK(neuro_tensor_synchronize(again));
        CHECK_OK(neuro_tensor_to_device_async(again, cpu, &down));
        CHECK_OK(neuro_tensor_release(again));
        CHECK_OK(neuro_transfer_wait(down, &back));
        CHECK_OK(neuro_transfer_release(down));
        CHECK(holds(back, bytes, (unsigned)i));
        CHECK_OK(neuro_tensor_release(back));
    }
}

static void many_under_way(void) {
    enum { MANY = 60 };
    neuro_transfer_t *up[MANY], *down[MANY];
    heard_t heard = NOTHING_HEARD;
    for (unsigned i = 0; i < MANY; i++) {
        neuro_tensor_t *here = pattern(NULL, 1 + i * 7919, i);
        CHECK_OK(neuro_tensor_to_device_async(here, gpu, &up[i]));
        CHECK_OK(neuro_transfer_then(up[i], hear, &heard));
        CHECK_OK(neuro_tensor_release(here));
    }
    for (unsigned i = 0; i < MANY; i++) {
        neuro_tensor_t *there;
        CHECK_OK(neuro_transfer_wait(up[i], &there));
        CHECK_OK(neuro_tensor_to_device_async(there, cpu, &down[i]));
        CHECK_OK(neuro_transfer_release(up[i]));
        CHECK_OK(neuro_tensor_release(there));
    }
    for (unsigned i = MANY; i-- > 0;) {
        neuro_tensor_t *back;
        CHECK_OK(neuro_transfer_wait(down[i], &back));
        CHECK(holds(back, 1 + i * 7919, i));
        CHECK_OK(neuro_transfer_release(down[i]));
        CHECK_OK(neuro_tensor_release(back));
    }
    wait_for_calls(&heard, MANY);
    CHECK(heard.calls == MANY && heard.status == NEURO_OK);
    CHECK_OK(neuro_tensor_release(heard.tensor));
}

/* Nobody holds them any more: they go on, their callbacks are called, and nothing stays. */
static void released_under_way(void) {
    neuro_pool_options_t options = {.struct_size = sizeof options, .limit_bytes = (size_t)64 << 20, .device = gpu};
    neuro_pool_stats_t stats = {.struct_size = sizeof stats};
    neuro_pool_t *pool;
    heard_t heard = NOTHING_HEARD;
    CHECK_OK(neuro_pool_create(&options, &pool));
    for (unsigned i = 0; i < 20; i++) {
        neuro_tensor_t *here = pattern(NULL, 300000, i);
        neuro_transfer_t *transfer;
        CHECK_OK(neuro_tensor_to_pool_async(here, pool, &transfer));
        CHECK_OK(neuro_tensor_release(here));
        if (i % 2 == 0) {
            CHECK_OK(neuro_transfer_then(transfer, hear, &heard));
        }
        CHECK_OK(neuro_transfer_release(transfer));
    }
    wait_for_calls(&heard, 10);
    CHECK(heard.status == NEURO_OK);
    neuro_tensor_t *back;
    CHECK_OK(neuro_tensor_to_device(heard.tensor, cpu, &back));
    CHECK(holds(back, 300000, 18));
    CHECK_OK(neuro_tensor_release(back));
    CHECK_OK(neuro_tensor_release(heard.tensor));
    for (int i = 0; i < 2000 && neuro_pool_get_stats(pool, &stats) == NEURO_OK && stats.live_blocks > 0; i++) {
        a_moment();
    }
    CHECK(stats.live_blocks == 0 && heard.calls == 10);
    CHECK_OK(neuro_pool_release(pool));
}

typedef struct {
    neuro_transfer_t *transfer;
    unsigned seed;
} waiting_t;

/* NULL, or what went wrong; the reference to the transfer is the thread's own. */
static void *wait_elsewhere(void *context) {
    waiting_t *waiting = context;
    neuro_tensor_t *there, *back;
    if (neuro_transfer_wait(waiting->transfer, &there) != NEURO_OK || neuro_transfer_release(waiting->transfer) != NEURO_OK
        || neuro_tensor_to_device(there, cpu, &back) != NEURO_OK || neuro_tensor_release(there) != NEURO_OK) {
        return "a call failed";
    }
    int right = holds(back, 500001, waiting->seed);
    return neuro_tensor_release(back) != NEURO_OK || !right ? "the bytes are others" : NULL;
}

static void waited_for_by_many_threads(void) {
    enum { THREADS = 8 };
    for (unsigned round = 0; round < (slow() ? 2 : 20); round++) {
        pthread_t threads[THREADS];
        waiting_t waiting = {.seed = round};
        neuro_tensor_t *here = pattern(NULL, 500001, round);
        CHECK_OK(neuro_tensor_to_device_async(here, gpu, &waiting.transfer));
        CHECK_OK(neuro_tensor_release(here));
        for (unsigned i = 0; i < THREADS; i++) {
            CHECK_OK(neuro_transfer_retain(waiting.transfer));
            CHECK(pthread_create(&threads[i], NULL, wait_elsewhere, &waiting) == 0);
        }
        CHECK_OK(neuro_transfer_release(waiting.transfer));
        const char *wrong = NULL;
        for (unsigned i = 0; i < THREADS; i++) {
            void *result;
            CHECK(pthread_join(threads[i], &result) == 0);
            wrong = result != NULL ? result : wrong;
        }
        CHECK(wrong == NULL);
    }
}

/* On the way back a pool of the host has no room: known when it is brought, not before. */
static void errors_are_told(void) {
    neuro_pool_options_t small = {.struct_size = sizeof small, .limit_bytes = 4096};
    neuro_pool_options_t options = {.struct_size = sizeof options, .limit_bytes = (size_t)1 << 20, .device = gpu};
    neuro_pool_t *full, *pool;
    neuro_transfer_t *transfer;
    neuro_tensor_t *here = pattern(NULL, 100000, 3), *there, *none;
    heard_t heard = NOTHING_HEARD, late = NOTHING_HEARD;
    CHECK_OK(neuro_pool_create(&small, &full));
    CHECK_OK(neuro_pool_create(&options, &pool));
    CHECK_OK(neuro_tensor_to_pool(here, pool, &there));
    CHECK_OK(neuro_tensor_to_pool_async(there, full, &transfer));
    CHECK_OK(neuro_transfer_then(transfer, hear, &heard));
    for (int i = 0; i < 2; i++) {
        CHECK_FAILS(neuro_transfer_wait(transfer, &none), NEURO_OUT_OF_MEMORY, "out of memory: asked for 100000 B");
        CHECK(none == NULL);
    }
    wait_for_calls(&heard, 1);
    CHECK(heard.status == NEURO_OUT_OF_MEMORY && heard.said == NEURO_OUT_OF_MEMORY && heard.tensor == NULL);
    CHECK(strstr(heard.words, "asked for 100000 B") != NULL);
    CHECK_OK(neuro_transfer_then(transfer, hear, &late));
    CHECK(late.calls == 1 && late.status == NEURO_OUT_OF_MEMORY && strstr(late.words, "asked for 100000 B") != NULL);
    CHECK_OK(neuro_transfer_release(transfer));
    /* Up, it is known at once; the pool of the device can be told to refuse, and is counted with all others. */
    CHECK_OK(neuro_pool_fail_nth(pool, 1));
    CHECK_FAILS(neuro_tensor_to_pool_async(here, pool, &transfer), NEURO_OUT_OF_MEMORY, "fail_nth");
    CHECK(transfer == NULL);
    CHECK_OK(neuro_tensor_to_pool_async(here, pool, &transfer));
    CHECK_OK(neuro_transfer_release(transfer));
    CHECK_OK(neuro_tensor_release(there));
    CHECK_OK(neuro_tensor_release(here));
    CHECK_OK(neuro_pool_release(full));
    CHECK_OK(neuro_pool_release(pool));
    for (int i = 0; i < 2000 && live_blocks() > 0; i++) {
        a_moment();
    }
}

/* Lavapipe shares the host's memory: both sides are the same bytes. Other devices copy, and the bytes are the same. */
static void memory_that_both_reach(void) {
    neuro_pool_options_t options = {.struct_size = sizeof options, .flags = NEURO_POOL_GPU_SUPPORT};
    neuro_pool_t *pool;
    neuro_tensor_t *there, *back, *mapped, *copy;
    neuro_transfer_t *transfer;
    char names[64];
    CHECK_OK(neuro_pool_create(&options, &pool));
    CHECK(neuro_pool_get_gpu_support(pool, names, sizeof names) > 0);
    static const size_t lengths[] = {1, 65, 4097, 70001, (3 << 20) + 5};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        neuro_tensor_t *here = pattern(pool, lengths[i], (unsigned)i);
        CHECK_OK(neuro_tensor_to_device_async(here, gpu, &transfer));
        CHECK_OK(neuro_transfer_wait(transfer, &there));
        CHECK_OK(neuro_transfer_release(transfer));
        CHECK(neuro_tensor_get_device(there).type == NEURO_DEVICE_VULKAN);
        CHECK_OK(neuro_tensor_to_device(there, cpu, &back));
        CHECK(holds(back, lengths[i], (unsigned)i));
        CHECK_OK(neuro_tensor_map(there, &mapped));
        CHECK(holds(mapped, lengths[i], (unsigned)i));
        if (getenv("NEURO_REQUIRE_VULKAN") != NULL) { /* lavapipe, then */
            CHECK(neuro_tensor_get_data(back) == neuro_tensor_get_data(here));
            CHECK(neuro_tensor_get_data(mapped) == neuro_tensor_get_data(here));
        }
        if (neuro_tensor_get_data(mapped) == neuro_tensor_get_data(here)) {
            /* What is written on one side is there on the other. */
            ((unsigned char *)neuro_tensor_get_data(here))[0] ^= 0xff;
            CHECK_OK(neuro_tensor_to_pool(there, NULL, &copy));
            CHECK(*(const unsigned char *)neuro_tensor_get_const_data(copy) == (unsigned char)~byte_at(0, (unsigned)i));
            CHECK_OK(neuro_tensor_release(copy));
        }
        neuro_pool_stats_t stats = {.struct_size = sizeof stats};
        CHECK_OK(neuro_pool_get_stats(pool, &stats));
        CHECK(stats.pinned_bytes >= lengths[i] && stats.pinned_bytes <= stats.committed_bytes);
        CHECK_OK(neuro_tensor_release(here));
        CHECK_OK(neuro_tensor_release(there));
        CHECK_OK(neuro_tensor_release(mapped));
        CHECK_OK(neuro_tensor_release(back));
    }
    /* A tensor of the device's own memory: mapped where the processor reaches it, else refused. */
    neuro_tensor_t *here = pattern(NULL, 70001, 9);
    CHECK_OK(neuro_tensor_to_device(here, gpu, &there));
    if (neuro_tensor_map(there, &mapped) == NEURO_OK) {
        CHECK(holds(mapped, 70001, 9));
        ((unsigned char *)neuro_tensor_get_data(mapped))[70000] = 7;
        CHECK_OK(neuro_tensor_to_device(there, cpu, &back));
        CHECK(((const unsigned char *)neuro_tensor_get_const_data(back))[70000] == 7);
        CHECK_OK(neuro_tensor_release(back));
        CHECK_OK(neuro_tensor_release(mapped));
    } else {
        CHECK(neuro_last_status() == NEURO_UNAVAILABLE && strstr(neuro_last_error(), "copy the tensor") != NULL);
    }
    CHECK_OK(neuro_tensor_release(there));
    CHECK_OK(neuro_tensor_release(here));
    CHECK_OK(neuro_pool_trim(pool, 0, NULL));
    CHECK_OK(neuro_pool_release(pool));
}

/* Leaves main with a dozen under way, some of them nobody's, and with callbacks that are still to be called. */
static int leave(void) {
    static heard_t heard = NOTHING_HEARD;
    for (unsigned i = 0; i < 12; i++) {
        neuro_tensor_t *here = pattern(NULL, 4000000 + i, i), *there;
        neuro_transfer_t *transfer;
        if (i % 3 == 2) {
            if (neuro_tensor_to_device(here, gpu, &there) != NEURO_OK
                || neuro_tensor_to_device_async(there, cpu, &transfer) != NEURO_OK) {
                return 2;
            }
        } else if (neuro_tensor_to_device_async(here, gpu, &transfer) != NEURO_OK) {
            return 3;
        }
        if (neuro_transfer_then(transfer, hear, &heard) != NEURO_OK || (i % 2 == 0 && neuro_transfer_release(transfer) != NEURO_OK)) {
            return 4;
        }
    }
    return 0;
}

static void a_process_ends_with_transfers_under_way(void) {
    for (int i = 0; i < (slow() ? 3 : 20); i++) {
        pid_t process = fork();
        if (process == 0) {
            alarm(120);
            execl(program, program, "leave", (char *)NULL);
            _exit(127);
        }
        int status;
        CHECK(process > 0 && waitpid(process, &status, 0) == process);
        if (status != 0) {
            printf("  process %d ended with %d\n", i, WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
        }
        CHECK(status == 0);
    }
}

/* The child has none of its parent's threads: it is told so, and hangs nowhere. */
static void a_forked_child_waits_for_nothing(void) {
    neuro_tensor_t *here = pattern(NULL, 6000000, 4), *there;
    neuro_transfer_t *transfer;
    CHECK_OK(neuro_tensor_to_device_async(here, gpu, &transfer));
    pid_t process = fork();
    if (process == 0) {
        alarm(60);
        heard_t heard = NOTHING_HEARD;
        bool done = false;
        if (neuro_transfer_wait(transfer, &there) != NEURO_DEVICE_LOST || strstr(neuro_last_error(), "forked") == NULL) {
            _exit(1);
        }
        if (neuro_transfer_is_done(transfer, &done) != NEURO_OK || !done) {
            _exit(2);
        }
        if (neuro_transfer_then(transfer, hear, &heard) != NEURO_OK || heard.calls != 0) {
            _exit(3);
        }
        if (neuro_transfer_release(transfer) != NEURO_OK || neuro_tensor_release(here) != NEURO_OK) {
            _exit(4);
        }
        /* Ends where nothing looks for leaks: what the parent's threads had is lost to the child. */
        execlp("true", "true", (char *)NULL);
        _exit(5);
    }
    int status;
    CHECK(process > 0 && waitpid(process, &status, 0) == process);
    if (status != 0) {
        printf("  the child ended with %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    }
    CHECK(status == 0);
    CHECK_OK(neuro_transfer_wait(transfer, &there));
    CHECK_OK(neuro_transfer_release(transfer));
    CHECK_OK(neuro_tensor_release(there));
    CHECK_OK(neuro_tensor_release(here));
}

int main(int argc, char **argv) {
    program = argv[0];
    if (argc > 1) {
        return leave();
    }
    RUN(wrong_arguments_are_refused);
    RUN(on_the_host);
    RUN(pools_say_which_devices_reach_them);
    if (!has_vulkan("transfers to a Vulkan device")) {
        return DONE();
    }
    RUN(there_and_back);
    RUN(many_under_way);
    RUN(released_under_way);
    RUN(waited_for_by_many_threads);
    RUN(errors_are_told);
    RUN(memory_that_both_reach);
    RUN(a_forked_child_waits_for_nothing);
    RUN(a_process_ends_with_transfers_under_way);
    return DONE();
}
