/* A process forks while its threads make and release tensors: the child can use what it inherited, make and release. */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, ELEMENTS = 1000 };

/* Valgrind is slow at it; run.sh tells. */
static int forks(void) {
    return getenv("NM_UNDER_VALGRIND") != NULL ? 10 : 100;
}

/* The allocator of AddressSanitizer has locks that a fork may leave locked, so there the main thread is the only one. */
static int threads_that_churn(void) {
    return getenv("NM_UNDER_ASAN") != NULL ? 0 : THREADS;
}

/* Set once, and no thread waits for more than the flag. */
static volatile sig_atomic_t stop;
static neuro_pool_t *pool;
static neuro_tensor_t *inherited;

/* NULL, or what went wrong. */
static void *churn(void *unused) {
    (void)unused;
    for (int64_t i = 0; !stop; i++) {
        neuro_tensor_t *tensor, *row;
        if (neuro_tensor_empty(i % 2 == 0 ? pool : NULL, NEURO_DTYPE_INT64, 2, (int64_t[]){2, 1 + i % 500}, &tensor) != NEURO_OK) {
            return "no tensor";
        }
        if (neuro_tensor_fill_i64(tensor, i) != NEURO_OK || neuro_tensor_select(tensor, 0, 1, &row) != NEURO_OK) {
            return "no view";
        }
        if (neuro_tensor_release(tensor) != NEURO_OK || *(const int64_t *)neuro_tensor_get_const_data(row) != i) {
            return "the view changed";
        }
        if (neuro_tensor_retain(inherited) != NEURO_OK || neuro_tensor_release(inherited) != NEURO_OK) {
            return "not counted";
        }
        if (neuro_tensor_release(row) != NEURO_OK) {
            return "not released";
        }
    }
    return NULL;
}

/* 0, or the number of the step that failed. */
static int child(void) {
    const int32_t *values = neuro_tensor_get_const_data(inherited);
    if (values == NULL) {
        return 1;
    }
    for (int i = 0; i < ELEMENTS; i++) {
        if (values[i] != 7) {
            return 2;
        }
    }
    neuro_tensor_t *own, *view;
    neuro_pool_t *own_pool;
    if (neuro_tensor_copy(inherited, pool, &own) != NEURO_OK || neuro_tensor_fill_i64(own, 8) != NEURO_OK) {
        return 3;
    }
    if (neuro_tensor_slice(own, 0, 10, 20, 1, &view) != NEURO_OK || neuro_tensor_release(own) != NEURO_OK
        || *(const int32_t *)neuro_tensor_get_const_data(view) != 8 || neuro_tensor_release(view) != NEURO_OK) {
        return 4;
    }
    if (neuro_tensor_release(own) != NEURO_INVALID_FREE || neuro_last_status() != NEURO_INVALID_FREE) {
        return 5;
    }
    if (neuro_pool_create(NULL, &own_pool) != NEURO_OK
        || neuro_tensor_zeros(own_pool, NEURO_DTYPE_FLOAT32, 1, (int64_t[]){100}, &own) != NEURO_OK
        || neuro_tensor_release(own) != NEURO_OK || neuro_pool_release(own_pool) != NEURO_OK) {
        return 6;
    }
    if (neuro_tensor_empty(NULL, NEURO_DTYPE_UINT8, 1, (int64_t[]){ELEMENTS}, &own) != NEURO_OK
        || neuro_tensor_fill_i64(own, 9) != NEURO_OK || neuro_tensor_release(own) != NEURO_OK
        || neuro_pool_default(&own_pool) != NEURO_OK || neuro_pool_release(own_pool) != NEURO_OK) {
        return 7;
    }
    /* The memory is the child's own from here on: releasing it leaves the parent's alone. A thread of the parent's may
     * have held references, and they are nobody's here. */
    while (neuro_tensor_refcount(inherited) > 0) {
        if (neuro_tensor_release(inherited) != NEURO_OK) {
            return 8;
        }
    }
    return neuro_tensor_retain(inherited) == NEURO_INVALID_ARGUMENT ? 0 : 9;
}

static const char *fork_once(void) {
    pid_t process = fork();
    if (process == 0) {
        /* A lock that was held over the fork would be held for ever. */
        alarm(20);
        _exit(child());
    }
    int status;
    if (process < 0 || waitpid(process, &status, 0) != process) {
        return "no fork";
    }
    if (WIFSIGNALED(status)) {
        printf("  the child was ended by signal %d%s\n", WTERMSIG(status), WTERMSIG(status) == SIGALRM ? ": it hung" : "");
        return "the child was ended";
    }
    if (WEXITSTATUS(status) != 0) {
        printf("  the child failed in step %d\n", WEXITSTATUS(status));
        return "the child failed";
    }
    return NULL;
}

static void children_use_what_they_inherit(void) {
    pthread_t threads[THREADS];
    CHECK_OK(neuro_pool_create(NULL, &pool));
    CHECK_OK(neuro_tensor_empty(pool, NEURO_DTYPE_INT32, 1, (int64_t[]){ELEMENTS}, &inherited));
    CHECK_OK(neuro_tensor_fill_i64(inherited, 7));
    for (int i = 0; i < threads_that_churn(); i++) {
        CHECK(pthread_create(&threads[i], NULL, churn, NULL) == 0);
    }
    const char *wrong = NULL;
    for (int i = 0; wrong == NULL && i < forks(); i++) {
        wrong = fork_once();
    }
    stop = 1;
    for (int i = 0; i < threads_that_churn(); i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0);
        wrong = result != NULL ? result : wrong;
    }
    if (wrong != NULL) {
        printf("  %s\n", wrong);
    }
    CHECK(wrong == NULL);
    CHECK(neuro_tensor_refcount(inherited) == 1);
    CHECK(*(const int32_t *)neuro_tensor_get_const_data(inherited) == 7);
    CHECK_OK(neuro_tensor_release(inherited));
    CHECK_OK(neuro_pool_release(pool));
}

int main(void) {
    RUN(children_use_what_they_inherit);
    return DONE();
}
