/* What every C test uses: CHECK and its kin, and RUN, which runs one test and sees that it left nothing behind. */
#ifndef CHECK_H
#define CHECK_H

#include <neuro_memory.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

/* One failed condition ends the test, so that nothing builds on it. */
#define CHECK(condition)                                                                    \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            printf("  %s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            printf("  last error: %s\n", neuro_last_error());                               \
            failures++;                                                                     \
            return;                                                                         \
        }                                                                                   \
    } while (0)

#define CHECK_OK(call) CHECK((call) == NEURO_OK)

/* The call fails with this status, and the message has these words. */
#define CHECK_FAILS(call, status, words)                                                    \
    do {                                                                                    \
        neuro_clear_error();                                                                \
        neuro_status_t check_status = (call);                                               \
        if (check_status != (status) || neuro_last_status() != (status)                     \
            || strstr(neuro_last_error(), (words)) == NULL) {                               \
            printf("  %s:%d: %s\n", __FILE__, __LINE__, #call);                             \
            printf("  wanted %s with \"%s\"\n", neuro_status_name(status), (words));        \
            printf("  got    %s: %s\n", neuro_status_name(check_status), neuro_last_error()); \
            failures++;                                                                     \
            return;                                                                         \
        }                                                                                   \
    } while (0)

static inline size_t live_blocks(void) {
    neuro_pool_stats_t stats;
    memset(&stats, 0, sizeof stats);
    stats.struct_size = sizeof stats;
    return neuro_get_stats(&stats) == NEURO_OK ? stats.live_blocks : (size_t)-1;
}

static inline void run(const char *name, void (*test)(void)) {
    size_t before = live_blocks();
    int failed = failures;
    test();
    if (failures == failed && live_blocks() != before) {
        printf("  %zu blocks were live before, %zu are now\n", before, live_blocks());
        failures++;
    }
    printf("%s %s\n", failures == failed ? "ok" : "FAILED", name);
    fflush(stdout);
}

/* What the library says of the first device of this type. */
static inline int first_device(int32_t type, neuro_device_info_t *info) {
    memset(info, 0, sizeof *info);
    info->struct_size = sizeof *info;
    for (size_t index = 0; neuro_device_get_info(index, info) == NEURO_OK; index++) {
        if (info->device.type == type) {
            return 1;
        }
    }
    return 0;
}

/* Whether there is a device of this type for `what`; says SKIPPED and why, which begins with `needs`, if not, and fails where
 * `variable` is set. */
static inline int has_device(const char *what, int32_t type, const char *variable, const char *needs) {
    char why[512] = "";
    neuro_device_info_t info;
    if (neuro_device_get_missing(type, why, sizeof why) == 0 && first_device(type, &info)) {
        strcpy(why, info.unusable);
    }
    if (why[0] != '\0') {
        int required = getenv(variable) != NULL;
        printf("%s %s: %s%s\n", required ? "FAILED" : "SKIPPED:", what, needs, why);
        failures += required;
    }
    return why[0] == '\0';
}

/* Whether there is vulkan:0. */
static inline int has_vulkan(const char *what) {
    return has_device(what, NEURO_DEVICE_VULKAN, "NEURO_REQUIRE_VULKAN", "");
}

/* Whether there is cuda:0. */
static inline int has_cuda(const char *what) {
    return has_device(what, NEURO_DEVICE_CUDA, "NEURO_REQUIRE_CUDA", "needs hardware: ");
}

#define RUN(test) run(#test, test)
#define DONE() (failures != 0)

#endif
