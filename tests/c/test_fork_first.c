/* A process forks while a thread of it makes the first call to the default pool: the child can use that pool. */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The first call takes a few microseconds: the forks are spread over this many, each so much later than the last. */
enum { STEPS = 50, NANOSECONDS_A_STEP = 1000, SECONDS_TO_HANG = 10 };

/* Valgrind is slow at it; run.sh tells. */
static int rounds(void) {
    return getenv("NM_UNDER_VALGRIND") != NULL ? 10 : 4 * STEPS;
}

/* Set once, and no thread waits for more than the flag. */
static volatile sig_atomic_t started;

static bool use_the_default_pool(void) {
    neuro_tensor_t *tensor;
    return neuro_tensor_empty(NULL, NEURO_DTYPE_INT32, 1, (int64_t[]){100}, &tensor) == NEURO_OK
           && neuro_tensor_fill_i64(tensor, 3) == NEURO_OK
           && ((const int32_t *)neuro_tensor_get_const_data(tensor))[99] == 3 && neuro_tensor_release(tensor) == NEURO_OK;
}

/* NULL, or what went wrong. */
static void *first_call(void *unused) {
    (void)unused;
    started = 1;
    return use_the_default_pool() ? NULL : "no tensor";
}

static void wait_nanoseconds(long wanted) {
    struct timespec from, now;
    clock_gettime(CLOCK_MONOTONIC, &from);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - from.tv_sec) * 1000000000L + now.tv_nsec - from.tv_nsec < wanted);
}

/* 0 where the process ended as it should; else a number that tells how it did not. */
static int ended(pid_t process) {
    int status;
    if (process < 0 || waitpid(process, &status, 0) != process) {
        return 100;
    }
    return WIFSIGNALED(status) ? 100 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* A process that has not called the library yet; what it returns is its exit status. */
static int fresh_process(int round) {
    pthread_t thread;
    void *wrong;
    if (pthread_create(&thread, NULL, first_call, NULL) != 0) {
        return 1;
    }
    /* The allocator of AddressSanitizer has locks that a fork may leave locked, so there the thread is gone before it. */
    if (getenv("NM_UNDER_ASAN") != NULL && (pthread_join(thread, &wrong) != 0 || wrong != NULL)) {
        return 2;
    }
    while (!started) {
    }
    wait_nanoseconds((long)(round % STEPS) * NANOSECONDS_A_STEP);
    pid_t child = fork();
    if (child == 0) {
        /* A lock that was held over the fork would be held for ever. */
        alarm(SECONDS_TO_HANG);
        _exit(use_the_default_pool() ? 0 : 3);
    }
    int status = ended(child);
    if (getenv("NM_UNDER_ASAN") == NULL && (pthread_join(thread, &wrong) != 0 || wrong != NULL)) {
        return 4;
    }
    return status;
}

int main(void) {
    /* Without RUN, which calls the library: the processes would not be fresh. */
    for (int round = 0; round < rounds(); round++) {
        pid_t process = fork();
        if (process == 0) {
            alarm(2 * SECONDS_TO_HANG);
            _exit(fresh_process(round));
        }
        int status = ended(process);
        if (status != 0) {
            printf("  round %d: status %d%s\n", round, status, status == 100 + SIGALRM ? ": the child hung" : "");
            printf("FAILED children_use_the_default_pool_whose_first_call_was_under_way\n");
            return 1;
        }
    }
    printf("ok children_use_the_default_pool_whose_first_call_was_under_way\n");
    return 0;
}
