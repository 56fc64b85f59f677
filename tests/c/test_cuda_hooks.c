/* Pools as allocators of frameworks, as those call them: PyTorch's numbered functions, CuPy's, and hooks of the program's own. What is wrong without
 * a device is refused everywhere; the rest needs one, and is SKIPPED without unless NEURO_REQUIRE_CUDA is set. */
#include "hooks.h"
#include <pthread.h>

#define BYTES (4 * COUNT)

static void what_is_refused_everywhere(void) {
    neuro_cuda_hook_t *hook = NULL, *none = (neuro_cuda_hook_t *)&hook;
    uint64_t address = 7;
    uint32_t number = 7;
    CHECK_FAILS(neuro_cuda_hook_create(NULL, &hook), NEURO_INVALID_ARGUMENT, "the pool is of cpu, and memory of a CUDA device is needed");
    CHECK_FAILS(neuro_cuda_hook_create(NULL, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_cuda_hook_retain(none), NEURO_INVALID_ARGUMENT, "no live neuro_cuda_hook_t");
    CHECK_FAILS(neuro_cuda_hook_release(none), NEURO_INVALID_FREE, "no live neuro_cuda_hook_t");
    CHECK_OK(neuro_cuda_hook_release(NULL));
    CHECK_FAILS(neuro_cuda_hook_allocate(none, 1, NULL, &address), NEURO_INVALID_ARGUMENT, "no live neuro_cuda_hook_t");
    CHECK(address == 0);
    CHECK_FAILS(neuro_cuda_hook_free(none, 1, NULL), NEURO_INVALID_ARGUMENT, "no live neuro_cuda_hook_t");
    CHECK_FAILS(neuro_cuda_hook_record_stream(none, 1, NULL), NEURO_INVALID_ARGUMENT, "no live neuro_cuda_hook_t");
    CHECK_FAILS(neuro_cuda_hook_forget_stream(NULL, NULL), NEURO_INVALID_ARGUMENT, "the neuro_cuda_hook_t is NULL");
    CHECK_FAILS(neuro_torch_bind(NULL, NEURO_TORCH_THROW, &number), NEURO_INVALID_ARGUMENT, "the pool is of cpu");
    CHECK(number == 0);
    CHECK_FAILS(neuro_torch_bind(NULL, 9, &number), NEURO_INVALID_ARGUMENT, "on_failure 9 is unknown");
    CHECK_FAILS(neuro_torch_unbind(3), NEURO_INVALID_FREE, "no slot of this number is bound");
    CHECK_FAILS(neuro_torch_unbind(16), NEURO_INVALID_FREE, "no slot of this number is bound");

    /* Callbacks cannot return an error: NULL, a line on standard error, and the last error. */
    neuro_clear_error();
    CHECK(neuro_torch_alloc_3(100, 0, NULL) == NULL && strstr(neuro_last_error(), "slot 3 is bound to no pool"));
    neuro_clear_error();
    neuro_torch_free_3(&address, 8, 0, NULL);
    CHECK(strstr(neuro_last_error(), "slot 3 is bound to no pool"));
    CHECK(neuro_cupy_malloc(NULL, 100, 0) == NULL && strstr(neuro_last_error(), "the neuro_cuda_hook_t is NULL"));
}

static void blocks_come_and_go_in_the_order_of_a_stream(void) {
    neuro_pool_t *pool = pool_of(8 << 20);
    uint32_t number = 9, same = 9, other = 9;
    CHECK_OK(neuro_torch_bind(pool, NEURO_TORCH_RETURN_NULL, &number));
    CHECK_OK(neuro_torch_bind(pool, NEURO_TORCH_RETURN_NULL, &same));
    CHECK_OK(neuro_torch_bind(pool, NEURO_TORCH_THROW, &other));
    CHECK(number == same && number != other);
    torch_t torch = functions_of(number);
    void *stream = NULL;
    CHECK(cu.create(&stream, 1) == 0);

    void *first = torch.alloc(BYTES, 0, stream), *second = torch.alloc(1, 0, stream);
    CHECK(first != NULL && second != NULL && (uintptr_t)first % 256 == 0 && first != second);
    CHECK(stats_of(pool).live_blocks == 2 && stats_of(pool).requested_bytes == BYTES + 1);
    CHECK(torch.alloc(0, 0, stream) == NULL);
    torch.release(NULL, 0, 0, stream);
    CHECK(fills(first, 1, COUNT, stream));
    torch.release(first, BYTES, 0, stream);
    void *again = torch.alloc(BYTES, 0, stream); /* at once, although its work is under way */
    CHECK(again == first && fills(again, 2, COUNT, stream));
    /* Sizes and devices of frees are not looked at. */
    torch.release(again, 77, 5, stream);
    /* Handed out of one pool through another number, it is that number's. */
    torch_t twin = functions_of(other);
    twin.release(second, 1, 0, stream);
    CHECK(neuro_last_status() == NEURO_INVALID_FREE && stats_of(pool).live_blocks == 1);

    /* While a block lives, the number is bound. */
    CHECK_OK(neuro_torch_unbind(same));
    CHECK_OK(neuro_torch_unbind(number));
    CHECK_OK(neuro_torch_unbind(other));
    CHECK_FAILS(neuro_torch_unbind(number), NEURO_INVALID_FREE, "bound");
    void *third = torch.alloc(BYTES, 0, stream);
    CHECK(third != NULL);
    torch.release(third, BYTES, 0, stream);
    torch.release(second, 1, 0, stream);
    CHECK(torch.alloc(BYTES, 0, stream) == NULL && strstr(neuro_last_error(), "bound to no pool"));
    CHECK(cu.synchronize(stream) == 0 && cu.destroy(stream) == 0);
    CHECK(stats_of(pool).live_blocks == 0);
    CHECK_OK(neuro_pool_release(pool));
}

static void limits_failures_and_mistakes(void) {
    neuro_pool_t *pool = pool_of(1 << 20);
    uint32_t number = 0;
    CHECK_OK(neuro_torch_bind(pool, NEURO_TORCH_RETURN_NULL, &number));
    torch_t torch = functions_of(number);
    void *stream = NULL;
    CHECK(cu.create(&stream, 1) == 0);
    CHECK(torch.alloc(2 << 20, 0, stream) == NULL && neuro_last_status() == NEURO_OUT_OF_MEMORY);
    CHECK(strstr(neuro_last_error(), "out of memory: asked for 2097152 B"));
    void *all = torch.alloc(1 << 20, 0, stream);
    CHECK(all != NULL && torch.alloc(1, 0, stream) == NULL);
    torch.release(all, 1 << 20, 0, stream);
    CHECK_OK(neuro_pool_fail_nth(pool, 2));
    void *one = torch.alloc(BYTES, 0, stream);
    CHECK(one != NULL && torch.alloc(BYTES, 0, stream) == NULL && neuro_last_status() == NEURO_OUT_OF_MEMORY);

    CHECK(torch.alloc(BYTES, 1, stream) == NULL && strstr(neuro_last_error(), "memory of cuda:1 was asked for"));
    CHECK(torch.alloc(BYTES, -1, stream) == NULL && strstr(neuro_last_error(), "memory of cuda:-1 was asked for"));

    uint64_t refused = neuro_cuda_hook_get_refused_frees();
    torch.release((char *)one + 256, BYTES, 0, stream);
    CHECK(neuro_last_status() == NEURO_INVALID_FREE && strstr(neuro_last_error(), "no live block of this hook"));
    torch.release(&pool, BYTES, 0, stream);
    torch.release(one, BYTES, 0, stream);
    torch.release(one, BYTES, 0, stream);
    CHECK(neuro_cuda_hook_get_refused_frees() == refused + 3 && stats_of(pool).live_blocks == 0);
    neuro_clear_error();
    torch.record_stream(one, stream); /* as of memory of another library, which sees to it */
    CHECK(neuro_last_status() == NEURO_OK);

    size_t committed = stats_of(pool).committed_bytes;
    CHECK(cu.synchronize(stream) == 0);
    torch.empty_cache();
    CHECK(committed > 0 && stats_of(pool).committed_bytes == 0);
    CHECK_OK(neuro_torch_unbind(number));
    CHECK(cu.destroy(stream) == 0);
    CHECK_OK(neuro_pool_release(pool));
}

static void sixteen_pools_are_bound_at_most(void) {
    neuro_pool_t *pools[17];
    uint32_t numbers[17];
    for (int i = 0; i < 16; i++) {
        pools[i] = pool_of(1 << 20);
        CHECK_OK(neuro_torch_bind(pools[i], NEURO_TORCH_RETURN_NULL, &numbers[i]));
        CHECK(numbers[i] < 16);
    }
    pools[16] = pool_of(1 << 20);
    CHECK_FAILS(neuro_torch_bind(pools[16], NEURO_TORCH_RETURN_NULL, &numbers[16]), NEURO_UNAVAILABLE, "16 pools are bound");
    CHECK_OK(neuro_torch_unbind(numbers[5]));
    CHECK_OK(neuro_torch_bind(pools[16], NEURO_TORCH_RETURN_NULL, &numbers[16]));
    CHECK(numbers[16] == numbers[5]);
    for (int i = 0; i < 17; i++) {
        CHECK(i == 5 || neuro_torch_unbind(numbers[i]) == NEURO_OK);
        CHECK_OK(neuro_pool_release(pools[i]));
    }
}

/* CuPy's functions are not told of streams: what waits for the legacy default stream is in order all the same. */
static void cupy_on_streams_that_it_does_not_name(void) {
    neuro_pool_t *pool = pool_of(1 << 20);
    neuro_cuda_hook_t *hook = NULL;
    CHECK_OK(neuro_cuda_hook_create(pool, &hook));
    void *streams[3] = {NULL, NULL, NULL}; /* the last is the legacy default stream */
    CHECK(cu.create(&streams[0], 0) == 0 && cu.create(&streams[1], 0) == 0);
    void *before = NULL;
    for (int round = 0; round < 9; round++) {
        void *block = neuro_cupy_malloc(hook, BYTES, 0);
        CHECK(block != NULL && (before == NULL || block == before));
        CHECK(fills(block, (unsigned)round, COUNT, streams[round % 3]));
        neuro_cupy_free(hook, block, 0);
        before = block;
    }
    for (uint64_t stream = 0; stream < 6; stream++) { /* the default stream, by each of its names, and that of this thread */
        uint64_t block = 0;
        CHECK_OK(neuro_cuda_hook_allocate(hook, BYTES, (void *)(uintptr_t)(stream % 3), &block));
        CHECK(cu.fill(block, 1, COUNT, (void *)(uintptr_t)(stream % 3)) == 0);
        CHECK_OK(neuro_cuda_hook_free(hook, block, (void *)(uintptr_t)(stream % 3)));
    }
    CHECK(neuro_cupy_malloc(hook, 2 << 20, 0) == NULL && neuro_last_status() == NEURO_OUT_OF_MEMORY);
    CHECK(neuro_cupy_malloc(hook, BYTES, 3) == NULL && strstr(neuro_last_error(), "memory of cuda:3 was asked for"));
    CHECK(neuro_cupy_malloc(hook, 0, 0) == NULL);
    uint64_t refused = neuro_cuda_hook_get_refused_frees();
    neuro_cupy_free(hook, before, 0);
    CHECK(neuro_cuda_hook_get_refused_frees() == refused + 1);
    for (int i = 0; i < 2; i++) {
        CHECK(cu.synchronize(streams[i]) == 0 && cu.destroy(streams[i]) == 0);
    }
    CHECK_OK(neuro_cuda_hook_release(hook));
    CHECK_OK(neuro_pool_release(pool));
}

static void a_hook_of_the_programs_own(void) {
    neuro_pool_t *pool = pool_of(1 << 20);
    neuro_cuda_hook_t *hook = NULL;
    CHECK_OK(neuro_cuda_hook_create(pool, &hook));
    CHECK_OK(neuro_cuda_hook_retain(hook));
    void *streams[2];
    uint64_t first, second, left;
    CHECK(cu.create(&streams[0], 1) == 0 && cu.create(&streams[1], 1) == 0);
    CHECK_OK(neuro_cuda_hook_allocate(hook, 1 << 20, streams[0], &first));
    CHECK(cu.fill(first, 1, COUNT, streams[0]) == 0);
    CHECK_OK(neuro_cuda_hook_free(hook, first, streams[0]));
    /* All of the pool: behind the other stream's work. */
    CHECK_OK(neuro_cuda_hook_allocate(hook, 1 << 20, streams[1], &second));
    CHECK(second == first && cu.fill(second, 2, COUNT, streams[1]) == 0);
    /* Freed on a stream that was ordered behind its use. */
    CHECK(cu.synchronize(streams[1]) == 0);
    CHECK_OK(neuro_cuda_hook_record_stream(hook, second, streams[0]));
    CHECK_OK(neuro_cuda_hook_free(hook, second, streams[0]));
    CHECK_FAILS(neuro_cuda_hook_free(hook, second, streams[0]), NEURO_INVALID_FREE, "no live block of this hook");
    CHECK_FAILS(neuro_cuda_hook_record_stream(hook, second, streams[0]), NEURO_INVALID_ARGUMENT, "no live block");
    CHECK_OK(neuro_cuda_hook_allocate(hook, BYTES, streams[0], &left));
    for (int i = 0; i < 2; i++) {
        CHECK_OK(neuro_cuda_hook_forget_stream(hook, streams[i]));
        CHECK(cu.synchronize(streams[i]) == 0);
    }
    CHECK_OK(neuro_cuda_hook_release(hook));
    CHECK(stats_of(pool).live_blocks == 1);
    CHECK_OK(neuro_cuda_hook_release(hook)); /* frees what is left */
    CHECK(stats_of(pool).live_blocks == 0);
    CHECK(cu.destroy(streams[0]) == 0 && cu.destroy(streams[1]) == 0);
    CHECK_OK(neuro_pool_release(pool));
}

/* Random programs, by two threads, on more streams than the library has places for. */
enum { STREAMS = 8, BLOCKS = 24, STEPS = 800 };

typedef struct {
    torch_t torch;
    void **streams;
    unsigned random;
    int wrong;
    int (*event_create)(void **, unsigned), (*event_record)(void *, void *), (*event_destroy)(void *);
    int (*wait)(void *, void *, unsigned), (*copy_back)(void *, uint64_t, size_t, void *);
} worker_t;

static unsigned next(worker_t *worker, unsigned below) {
    worker->random = worker->random * 1664525u + 1013904223u;
    return (worker->random >> 8) % below;
}

typedef struct {
    void *block;
    void *stream;
    unsigned value;
    size_t words;
} held_t;

static void *work(void *argument) {
    worker_t *worker = argument;
    neuro_cuda_handles_t handles = {.struct_size = sizeof handles};
    neuro_cuda_get_handles(gpu, &handles);
    cu.set_context(handles.context);
    held_t held[BLOCKS];
    memset(held, 0, sizeof held);
    int steps = getenv("NM_UNDER_VALGRIND") ? STEPS / 10 : STEPS;
    for (int step = 0; step < steps && !worker->wrong; step++) {
        held_t *at = &held[next(worker, BLOCKS)];
        if (at->block == NULL) {
            at->words = 64 + next(worker, 40000);
            at->stream = worker->streams[next(worker, STREAMS)];
            at->value = next(worker, 1 << 20);
            at->block = worker->torch.alloc(at->words * 4, 0, at->stream);
            worker->wrong |= at->block != NULL && !fills(at->block, at->value, at->words, at->stream);
            continue;
        }
        if (next(worker, 3) == 0) { /* a side stream, behind the main one, that is recorded */
            void *side = worker->streams[next(worker, STREAMS)], *event = NULL, *back = NULL;
            at->value = next(worker, 1 << 20);
            worker->wrong |= worker->event_create(&event, 2) || worker->event_record(event, at->stream);
            worker->wrong |= worker->wait(side, event, 0) || !fills(at->block, at->value, at->words, side);
            worker->torch.record_stream(at->block, side);
            /* Half of the time it comes back. */
            if (next(worker, 2) == 0) {
                worker->wrong |= worker->event_create(&back, 2) || worker->event_record(back, side);
                worker->wrong |= worker->wait(at->stream, back, 0) || worker->event_destroy(back);
                unsigned found = 0;
                uint64_t last = (uint64_t)(uintptr_t)at->block + 4 * (at->words - 1);
                worker->wrong |= worker->copy_back(&found, last, 4, at->stream) || cu.synchronize(at->stream) || found != at->value;
                worker->wrong |= worker->event_destroy(event);
            } else {
                worker->wrong |= worker->event_destroy(event);
                worker->torch.release(at->block, at->words * 4, 0, at->stream);
                at->block = NULL;
            }
            continue;
        }
        worker->torch.release(at->block, at->words * 4, 0, at->stream);
        at->block = NULL;
    }
    for (int i = 0; i < BLOCKS; i++) {
        worker->torch.release(held[i].block, 0, 0, held[i].stream);
    }
    return NULL;
}

static void two_threads_on_more_streams_than_places(void) {
    neuro_pool_t *pool = pool_of(3 << 20);
    uint32_t number = 0;
    CHECK_OK(neuro_torch_bind(pool, NEURO_TORCH_RETURN_NULL, &number));
    void *library = dlopen("libcuda.so.1", RTLD_NOW), *streams[STREAMS] = {NULL};
    worker_t workers[2];
    pthread_t threads[2];
    for (int i = 1; i < STREAMS; i++) { /* and the legacy one */
        CHECK(cu.create(&streams[i], 1) == 0);
    }
    for (int i = 0; i < 2; i++) {
        const char *seed = getenv("NEURO_CUDA_SIM_SEED");
        workers[i] = (worker_t){.torch = functions_of(number), .streams = streams};
        workers[i].random = 77u * (unsigned)(i + 1) + (seed ? (unsigned)atoi(seed) : 0);
        *(void **)&workers[i].event_create = call(library, "cuEventCreate");
        *(void **)&workers[i].event_record = call(library, "cuEventRecord");
        *(void **)&workers[i].event_destroy = call(library, "cuEventDestroy_v2");
        *(void **)&workers[i].wait = call(library, "cuStreamWaitEvent");
        *(void **)&workers[i].copy_back = call(library, "cuMemcpyDtoHAsync_v2");
        CHECK(workers[i].copy_back && workers[i].wait && workers[i].event_create && workers[i].event_destroy);
        CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0 && !workers[i].wrong);
    }
    CHECK(stats_of(pool).live_blocks == 0 && stats_of(pool).peak_bytes <= 3 << 20);
    for (int i = 0; i < STREAMS; i++) {
        CHECK(cu.synchronize(streams[i]) == 0);
    }
    CHECK_OK(neuro_torch_unbind(number));
    for (int i = 1; i < STREAMS; i++) {
        CHECK(cu.destroy(streams[i]) == 0);
    }
    CHECK_OK(neuro_pool_release(pool));
}

int main(void) {
    RUN(what_is_refused_everywhere);
    if (!has_cuda("pools as allocators of frameworks")) {
        return DONE();
    }
    if (!open_driver()) {
        return 1;
    }
    RUN(blocks_come_and_go_in_the_order_of_a_stream);
    RUN(limits_failures_and_mistakes);
    RUN(sixteen_pools_are_bound_at_most);
    RUN(cupy_on_streams_that_it_does_not_name);
    RUN(a_hook_of_the_programs_own);
    RUN(two_threads_on_more_streams_than_places);
    return DONE();
}
