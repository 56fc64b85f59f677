/* A memory handler for NumPy's array data that forwards to the C library and notes what was asked, in order.
 *
 * recorder.py compiles it, hands `recorder_handler()` to NumPy and reads `recorder_events()` afterwards. The structures are
 * written down here as NumPy 1.22 and later have them (version 1), so that neither its headers nor Python's are needed.
 *
 * Any thread may call: a place in the log is taken atomically, an allocation after it was made and a free before, so
 * that an address never appears twice without its free between.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum kind { ALLOCATED = 1, FREED = 2 };

struct event {
    uint64_t kind;
    uint64_t address;
    uint64_t bytes; /* of an allocation; 0 of a free */
};

/* PyDataMemAllocator */
struct allocator {
    void *context;
    void *(*malloc)(void *context, size_t bytes);
    void *(*calloc)(void *context, size_t count, size_t bytes);
    void *(*realloc)(void *context, void *block, size_t bytes);
    void (*free)(void *context, void *block, size_t bytes);
};

/* PyDataMem_Handler */
struct handler {
    char name[127];
    uint8_t version;
    struct allocator allocator;
};

enum { CAPACITY = 1 << 22 };

static struct event events[CAPACITY];
/* How many events there were; more than CAPACITY where the log was too short. */
static uint64_t count;
/* Requests that the C library refused: the log does not say what became of them. */
static uint64_t refusals;

static void note(enum kind kind, const void *block, size_t bytes) {
    uint64_t place = __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED);
    if (place < CAPACITY)
        events[place] = (struct event){kind, (uint64_t)(uintptr_t)block, bytes};
}

static void *allocated(void *block, size_t bytes) {
    if (block)
        note(ALLOCATED, block, bytes);
    else
        __atomic_fetch_add(&refusals, 1, __ATOMIC_RELAXED);
    return block;
}

static void *record_malloc(void *context, size_t bytes) {
    (void)context;
    return allocated(malloc(bytes), bytes);
}

static void *record_calloc(void *context, size_t number, size_t bytes) {
    (void)context;
    return allocated(calloc(number, bytes), number * bytes);
}

/* A free and an allocation, whether the block moves or not. */
static void *record_realloc(void *context, void *block, size_t bytes) {
    (void)context;
    if (block)
        note(FREED, block, 0);
    return allocated(realloc(block, bytes), bytes);
}

static void record_free(void *context, void *block, size_t bytes) {
    (void)context;
    (void)bytes;
    if (block)
        note(FREED, block, 0);
    free(block);
}

static struct handler handler = {
    "recorder", 1, {NULL, record_malloc, record_calloc, record_realloc, record_free},
};

_Static_assert(sizeof(void *) != 8 || offsetof(struct handler, allocator) == 128, "NumPy's layout");

void *recorder_handler(void) { return &handler; }

/* What NumPy wants the handler's capsule to be called. Here because the last arrays may outlive what Python holds. */
const char *recorder_capsule_name(void) { return "mem_handler"; }

const struct event *recorder_events(void) { return events; }

uint64_t recorder_count(void) { return count; }

uint64_t recorder_capacity(void) { return CAPACITY; }

uint64_t recorder_refusals(void) { return refusals; }
