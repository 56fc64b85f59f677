/* Many threads on one pool: nothing is lost, nothing is torn. */
#include "check.h"
#include <pthread.h>

enum { THREADS = 10, TENSORS = 1000, KEPT = 50 };

static neuro_pool_t *pool;
/* Made by one thread, released by another. */
static neuro_tensor_t *exchange[THREADS][KEPT];
static pthread_barrier_t barrier;

/* NULL, or what went wrong. */
static void *work(void *argument) {
    size_t me = *(size_t *)argument;
    for (int64_t i = 0; i < TENSORS; i++) {
        neuro_tensor_t *tensor, *view;
        if (neuro_tensor_empty(pool, NEURO_DTYPE_INT64, 2, (int64_t[]){1 + i % 37, 1 + (int64_t)me}, &tensor) != NEURO_OK) {
            return "no tensor";
        }
        int64_t mark = (int64_t)me << 32 | i;
        if (neuro_tensor_fill_i64(tensor, mark) != NEURO_OK || neuro_tensor_select(tensor, 1, (int64_t)me, &view) != NEURO_OK) {
            return "no view";
        }
        if (neuro_tensor_retain(tensor) != NEURO_OK || neuro_tensor_release(tensor) != NEURO_OK) {
            return "not counted";
        }
        const void *last;
        if (neuro_tensor_const_at(view, 1, (int64_t[]){i % 37}, &last) != NEURO_OK || *(const int64_t *)last != mark) {
            return "another thread wrote here";
        }
        if (neuro_tensor_release(tensor) != NEURO_OK) {
            return "not released";
        }
        if (i % (TENSORS / KEPT) == 0) {
            exchange[me][i / (TENSORS / KEPT)] = view;
        } else if (neuro_tensor_release(view) != NEURO_OK) {
            return "not released";
        }
        /* Errors are each thread's own. */
        if (i % 100 == 0 && (neuro_tensor_release(tensor) != NEURO_INVALID_FREE || neuro_last_status() != NEURO_INVALID_FREE)) {
            return "a stale handle was taken";
        }
    }
    pthread_barrier_wait(&barrier);
    size_t neighbour = (me + 1) % THREADS;
    for (int i = 0; i < KEPT; i++) {
        int64_t mark = (int64_t)neighbour << 32 | i * (TENSORS / KEPT);
        if (*(const int64_t *)neuro_tensor_get_const_data(exchange[neighbour][i]) != mark) {
            return "a neighbour's tensor changed";
        }
        if (neuro_tensor_release(exchange[neighbour][i]) != NEURO_OK) {
            return "a neighbour's tensor was not released";
        }
    }
    return NULL;
}

static void ten_thousand_tensors_leave_nothing(void) {
    pthread_t threads[THREADS];
    size_t numbers[THREADS];
    CHECK_OK(neuro_pool_create(NULL, &pool));
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
    for (size_t i = 0; i < THREADS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, work, &numbers[i]) == 0);
    }
    const char *wrong = NULL;
    for (int i = 0; i < THREADS; i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0);
        wrong = result != NULL ? result : wrong;
    }
    pthread_barrier_destroy(&barrier);
    if (wrong != NULL) {
        printf("  a thread says: %s\n", wrong);
    }
    CHECK(wrong == NULL);
    neuro_pool_stats_t stats = {.struct_size = sizeof stats};
    CHECK_OK(neuro_pool_get_stats(pool, &stats));
    CHECK(stats.total_allocations == THREADS * TENSORS);
    CHECK(stats.live_blocks == 0 && stats.live_bytes == 0);
    /* Room for small blocks stays between the others until it is trimmed. */
    CHECK(stats.regions > 0);
    CHECK_OK(neuro_pool_trim(pool, 0, NULL));
    CHECK_OK(neuro_pool_get_stats(pool, &stats));
    CHECK(stats.free_runs == stats.regions);
    CHECK_OK(neuro_pool_release(pool));
}

int main(void) {
    RUN(ten_thousand_tensors_leave_nothing);
    return DONE();
}
