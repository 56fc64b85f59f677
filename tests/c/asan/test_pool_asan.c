/* AddressSanitizer sees inside pools: a touch of memory that is nobody's ends the program where it happens.
 *
 * Without an argument the program runs itself once for each way of touching wrongly, as a process of its own, and looks at
 * how it ended; with one it does what the argument says. Only for programs built with -fsanitize=address: scripts/test/asan.sh. */
#include "../check.h"
#include <sys/wait.h>
#include <unistd.h>

static const char *program;

/* Not for the compiler to see through. */
static volatile unsigned char *volatile at;

static neuro_pool_t *pool_of(uint64_t flags) {
    neuro_pool_options_t options = {.struct_size = sizeof options, .flags = flags};
    neuro_pool_t *pool = NULL;
    return neuro_pool_create(&options, &pool) == NEURO_OK ? pool : NULL;
}

static unsigned char *block_of(neuro_pool_t *pool, size_t bytes) {
    void *block;
    if (neuro_pool_allocate(pool, bytes, 0, &block) != NEURO_OK) {
        fprintf(stderr, "no block: %s\n", neuro_last_error());
        exit(3);
    }
    return block;
}

/* Does what is named, and says so if nobody ends it. */
static int touch(const char *what) {
    neuro_pool_t *pool = pool_of(0);
    size_t bytes = strstr(what, "large") != NULL ? 3000000 : 100;
    at = block_of(pool, bytes);
    at[0] = at[bytes - 1] = 1;
    if (strcmp(what, "rightly, many pools") == 0) {
        /* Pools come and go at a cost that their addresses do not have a part in. */
        alarm(60);
        for (int i = 0; i < 500; i++) {
            neuro_pool_t *one = pool_of(i % 2 ? NEURO_POOL_DEBUG : 0);
            neuro_pool_free(block_of(one, bytes));
            neuro_pool_release(one);
        }
    } else if (strncmp(what, "rightly", 7) == 0) {
        unsigned char *again = block_of(pool, bytes);
        again[bytes - 1] = 1;
        neuro_pool_free(again);
        neuro_pool_free((void *)at);
        neuro_pool_release(pool);
        /* Its addresses are the system's again, whoever gets them. */
        pool = pool_of(0);
        at = block_of(pool, bytes);
        memset((void *)at, 1, bytes);
        neuro_pool_free((void *)at);
        neuro_pool_release(pool);
    } else if (strncmp(what, "past", 4) == 0) {
        at[bytes] = 1;
    } else if (strncmp(what, "freed", 5) == 0) {
        neuro_pool_free((void *)at);
        if (at[bytes / 2] == 1) {
            at[0] = 2;
        }
    } else if (strncmp(what, "shrunk", 6) == 0) {
        void *shrunk;
        neuro_pool_reallocate((void *)at, bytes / 2, 0, &shrunk);
        at = shrunk;
        at[bytes / 2] = 1;
    } else if (strncmp(what, "tensor", 6) == 0) {
        neuro_tensor_t *tensor;
        int64_t length = (int64_t)bytes;
        if (neuro_tensor_zeros(NULL, NEURO_DTYPE_UINT8, 1, &length, &tensor) == NEURO_OK) {
            at = neuro_tensor_get_data(tensor);
            neuro_tensor_release(tensor);
            at[0] = 1;
        }
    }
    printf("lived\n");
    return 0;
}

/* Runs this program with one argument; what it wrote goes to `output`. Its status, as wait gives it; -1 if it did not run. */
static int run_self(const char *what, char *output, size_t size) {
    int ends[2];
    if (pipe(ends) != 0) {
        return -1;
    }
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        execl(program, program, what, (char *)NULL);
        _exit(4);
    }
    close(ends[1]);
    size_t length = 0;
    char rest[4096];
    for (;;) {
        int full = length + 1 >= size;
        ssize_t got = read(ends[0], full ? rest : output + length, full ? sizeof rest : size - 1 - length);
        if (got <= 0) {
            break;
        }
        length += full ? 0 : (size_t)got;
    }
    output[length] = '\0';
    close(ends[0]);
    int status = -1;
    return child > 0 && waitpid(child, &status, 0) == child ? status : -1;
}

static void is_reported(const char *what) {
    static char output[1 << 16];
    int status = run_self(what, output, sizeof output);
    int died = status != -1 && !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    int told = strstr(output, "AddressSanitizer: use-after-poison") != NULL && strstr(output, "in touch") != NULL;
    if (!died || !told) {
        printf("  %s ended with wait status %d and wrote:\n%s\n", what, status, output);
    }
    CHECK(died && told && strstr(output, "lived") == NULL);
}

static void writes_past_the_end_are_reported(void) {
    is_reported("past the end");
    is_reported("past the end of a large one");
    is_reported("shrunk, then past the end");
    is_reported("shrunk, then past the end, large");
}

static void uses_after_the_free_are_reported(void) {
    is_reported("freed, then read");
    is_reported("freed, then read, large");
    is_reported("tensor released, then written");
}

static void what_is_right_is_not_reported(void) {
    static char output[1 << 16];
    const char *rightly[] = {"rightly, small", "rightly, large", "rightly, many pools"};
    for (int i = 0; i < 3; i++) {
        int status = run_self(rightly[i], output, sizeof output);
        CHECK(status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0 && strcmp(output, "lived\n") == 0);
    }
}

int main(int argc, char **argv) {
    program = argv[0];
    if (argc > 1) {
        return touch(argv[1]);
    }
    RUN(writes_past_the_end_are_reported);
    RUN(uses_after_the_free_are_reported);
    RUN(what_is_right_is_not_reported);
    return DONE();
}
