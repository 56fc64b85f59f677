/* Memory of a device that another process uses: it gets the descriptor over a socket (SCM_RIGHTS), and each opens the device itself.
 * Without a Vulkan device it is SKIPPED, unless NEURO_REQUIRE_VULKAN is set. */
#define _GNU_SOURCE
#include "check.h"
#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT = 5000 };

static const neuro_device_t gpu = {NEURO_DEVICE_VULKAN, 0};
static const neuro_device_t cpu = {NEURO_DEVICE_CPU, 0};
static const int64_t shape[] = {50, 100};

/* What goes through the socket beside the descriptor. */
typedef struct {
    neuro_exported_memory_t memory;
    int ready;
} message_t;

static int send_memory(int socket, const message_t *message) {
    char room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec bytes = {(void *)message, sizeof *message};
    struct msghdr header = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &message->memory.fd, sizeof(int));
    return sendmsg(socket, &header, 0) == (ssize_t)sizeof *message;
}

static int receive_memory(int socket, message_t *message) {
    char room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec bytes = {message, sizeof *message};
    struct msghdr header = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    if (recvmsg(socket, &header, 0) != (ssize_t)sizeof *message || CMSG_FIRSTHDR(&header) == NULL) {
        return 0;
    }
    memcpy(&message->memory.fd, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof(int));
    return 1;
}

/* The tensor's elements are first, first + 1, ... */
static int holds(const neuro_tensor_t *there, int32_t first) {
    static int32_t values[COUNT];
    if (neuro_tensor_copy_to_bytes(there, values, sizeof values) != NEURO_OK) {
        return 0;
    }
    for (int32_t i = 0; i < COUNT; i++) {
        if (values[i] != first + i) {
            return 0;
        }
    }
    return 1;
}

static neuro_tensor_t *ramp(int32_t first, neuro_pool_t *pool) {
    neuro_tensor_t *here = NULL, *there = NULL;
    if (neuro_tensor_empty(NULL, NEURO_DTYPE_INT32, 2, shape, &here) == NEURO_OK) {
        int32_t *values = neuro_tensor_get_data(here);
        for (int32_t i = 0; i < COUNT; i++) {
            values[i] = first + i;
        }
        neuro_tensor_to_pool(here, pool, &there);
        neuro_tensor_release(here);
    }
    return there;
}

static neuro_pool_t *exporting(void) {
    neuro_pool_t *pool = NULL;
    neuro_pool_options_t options = {
        .struct_size = sizeof options, .limit_bytes = 8 << 20, .device = gpu, .flags = NEURO_POOL_EXPORT};
    neuro_pool_create(&options, &pool);
    return pool;
}

static int descriptors(void) {
    int open = 0;
    for (int fd = 0; fd < 256; fd++) {
        open += fcntl(fd, F_GETFD) != -1;
    }
    return open;
}

/* The other process: has what it imported say what the first wrote, and its own exported memory go the other way. */
static int other_process(int socket) {
    message_t message;
    neuro_tensor_t *tensor = NULL;
    if (!receive_memory(socket, &message)) {
        return 2;
    }
    if (neuro_tensor_import_fd(gpu, &message.memory, NEURO_DTYPE_INT32, 2, shape, &tensor) != NEURO_OK) {
        fprintf(stderr, "  in the other process: %s\n", neuro_last_error());
        return 3;
    }
    close(message.memory.fd);
    if (!holds(tensor, 7)) {
        return 4;
    }
    neuro_pool_t *pool = exporting();
    neuro_tensor_t *own = ramp(1000, pool);
    message.memory.struct_size = sizeof message.memory;
    if (neuro_tensor_export_fd(own, &message.memory) != NEURO_OK || !send_memory(socket, &message)) {
        return 5;
    }
    close(message.memory.fd);
    char word;
    /* The memory stays when this process is gone. */
    return read(socket, &word, 1) == 1 ? 0 : 6;
}

static int sockets[2];
static pid_t child;

static void two_processes_use_one_memory(void) {
    neuro_pool_t *pool = exporting();
    neuro_tensor_t *tensor = ramp(7, pool), *back = NULL;
    message_t message = {.memory.struct_size = sizeof message.memory};
    CHECK_OK(neuro_tensor_export_fd(tensor, &message.memory));
    CHECK(message.memory.bytes == 4 * COUNT && message.memory.allocation_bytes >= 8 << 20);
    CHECK(send_memory(sockets[0], &message));
    CHECK(close(message.memory.fd) == 0);
    CHECK(receive_memory(sockets[0], &message));
    CHECK_OK(neuro_tensor_import_fd(gpu, &message.memory, NEURO_DTYPE_INT32, 2, shape, &back));
    CHECK(close(message.memory.fd) == 0);
    CHECK(holds(back, 1000));
    CHECK(write(sockets[0], "x", 1) == 1);
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    child = 0;
    if (status != 0) {
        printf("  the other process ended with %#x\n", status);
    }
    CHECK(status == 0);
    CHECK(holds(back, 1000) && holds(tensor, 7));
    CHECK_OK(neuro_tensor_release(back));
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_OK(neuro_pool_release(pool));
}

static void bad_input(void) {
    neuro_pool_t *plain = NULL;
    CHECK_OK(neuro_pool_of_device(gpu, &plain));
    /* Memory of the test before stays, and its descriptor with it, until the device was asked whether it is done: as it is here. */
    CHECK_OK(neuro_pool_trim(plain, 0, NULL));
    int at_first = descriptors();
    neuro_pool_t *pool = exporting();
    neuro_tensor_t *tensor = ramp(7, pool), *turned = NULL, *there = NULL, *here = NULL, *out = NULL;
    neuro_exported_memory_t memory = {.struct_size = sizeof memory};
    CHECK(tensor != NULL);
    CHECK_FAILS(neuro_tensor_export_fd(tensor, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_tensor_export_fd(NULL, &memory), NEURO_INVALID_ARGUMENT, "is NULL");
    CHECK(memory.fd == -1 && memory.bytes == 0);
    memory.struct_size = offsetof(neuro_exported_memory_t, driver_uuid);
    int before = descriptors();
    CHECK_FAILS(neuro_tensor_export_fd(tensor, &memory), NEURO_INVALID_ARGUMENT, "struct_size is 56");
    memory.struct_size = sizeof memory;
    CHECK_OK(neuro_tensor_permute(tensor, 2, (size_t[]){1, 0}, &turned));
    CHECK_FAILS(neuro_tensor_export_fd(turned, &memory), NEURO_NOT_CONTIGUOUS, "not contiguous");
    CHECK_OK(neuro_tensor_to_pool(tensor, plain, &there));
    CHECK_FAILS(neuro_tensor_export_fd(there, &memory), NEURO_INVALID_ARGUMENT, "not made to be exported");
    CHECK_OK(neuro_tensor_to_device(tensor, cpu, &here));
    CHECK_FAILS(neuro_tensor_export_fd(here, &memory), NEURO_INVALID_ARGUMENT, "lies on cpu");
    CHECK(memory.fd == -1 && descriptors() == before);

    CHECK_OK(neuro_tensor_export_fd(tensor, &memory));
    CHECK(memory.fd >= 0 && memory.handle_type == NEURO_HANDLE_OPAQUE_FD && descriptors() == before + 1);
    neuro_exported_memory_t bad = memory;
#define IMPORT(device, memory, dtype, shape) neuro_tensor_import_fd(device, memory, dtype, 2, shape, &out)
    CHECK_FAILS(IMPORT(gpu, NULL, NEURO_DTYPE_INT32, shape), NEURO_INVALID_ARGUMENT, "memory is NULL");
    CHECK_FAILS(IMPORT(cpu, &memory, NEURO_DTYPE_INT32, shape), NEURO_INVALID_ARGUMENT, "the cpu does not reach");
    CHECK_FAILS(IMPORT(((neuro_device_t){7, 998}), &memory, NEURO_DTYPE_INT32, shape), NEURO_UNAVAILABLE, "vulkan:998");
    CHECK_FAILS(IMPORT(gpu, &memory, 0, shape), NEURO_BAD_DTYPE, "unknown dtype");
    CHECK_FAILS(IMPORT(gpu, &memory, NEURO_DTYPE_INT32, NULL), NEURO_INVALID_ARGUMENT, "shape is NULL");
    CHECK_FAILS(IMPORT(gpu, &memory, NEURO_DTYPE_FLOAT64, shape), NEURO_INVALID_ARGUMENT, "has 40000 B");
    CHECK_FAILS(neuro_tensor_import_fd(gpu, &memory, NEURO_DTYPE_INT32, 2, shape, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
#define REFUSED(field, value, words)                                                             \
    bad = memory;                                                                                \
    bad.field = value;                                                                           \
    CHECK_FAILS(IMPORT(gpu, &bad, NEURO_DTYPE_INT32, shape), NEURO_INVALID_ARGUMENT, words)
    REFUSED(struct_size, 8, "struct_size is 8");
    REFUSED(handle_type, 9, "handle_type 9");
    REFUSED(device_uuid[3], (uint8_t)~memory.device_uuid[3], "device with uuid");
    REFUSED(driver_uuid[3], (uint8_t)~memory.driver_uuid[3], "driver with uuid");
    REFUSED(offset, memory.allocation_bytes, "do not lie within");
    REFUSED(offset, UINT64_MAX, "do not lie within");
    REFUSED(bytes, 3, "3 B are said");
    REFUSED(fd, -1, "fd -1");
    /* One that was closed. */
    int closed = dup(memory.fd);
    close(closed);
    REFUSED(fd, closed, "cannot be used");
    int file = open("/dev/null", O_RDONLY);
    bad = memory;
    bad.fd = file;
    CHECK_FAILS(IMPORT(gpu, &bad, NEURO_DTYPE_INT32, shape), NEURO_DRIVER, "vkAllocateMemory");
    CHECK(close(file) == 0);
    CHECK(out == NULL && descriptors() == before + 1);
    CHECK_OK(IMPORT(gpu, &memory, NEURO_DTYPE_INT32, shape));
    CHECK(close(memory.fd) == 0);
    CHECK(holds(out, 7));
    CHECK_FAILS(neuro_tensor_export_fd(out, &bad), NEURO_INVALID_ARGUMENT, "not made to be exported");

    neuro_pool_t *none = NULL;
    neuro_pool_options_t options = {.struct_size = sizeof options, .flags = NEURO_POOL_EXPORT};
    CHECK_FAILS(neuro_pool_create(&options, &none), NEURO_INVALID_ARGUMENT, "NEURO_POOL_EXPORT");
    options.flags = NEURO_POOL_EXPANDABLE;
    CHECK_FAILS(neuro_pool_create(&options, &none), NEURO_INVALID_ARGUMENT, "NEURO_POOL_EXPANDABLE");
    options.device = gpu;
    options.flags = NEURO_POOL_EXPORT | NEURO_POOL_EXPANDABLE;
    CHECK_FAILS(neuro_pool_create(&options, &none), NEURO_INVALID_ARGUMENT, "make two pools");
    options.flags = NEURO_POOL_EXPANDABLE;
    CHECK_OK(neuro_pool_create(&options, &none));
    neuro_tensor_t *nothing = NULL;
    CHECK_FAILS(neuro_tensor_to_pool(tensor, none, &nothing), NEURO_UNAVAILABLE, "with_expandable");
    CHECK(nothing == NULL);
    CHECK_OK(neuro_pool_release(none));
    none = NULL;
    options.flags = NEURO_POOL_EXPORT | NEURO_POOL_PREFAULT;
    CHECK_FAILS(neuro_pool_create(&options, &none), NEURO_INVALID_ARGUMENT, "flags is set");
    options.flags = NEURO_POOL_EXPORT;
    CHECK_OK(neuro_pool_create(&options, &none));
    CHECK(none != plain);
    neuro_tensor_t *all[] = {tensor, turned, there, here, out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        CHECK_OK(neuro_tensor_release(all[i]));
    }
    CHECK_OK(neuro_pool_release(none));
    CHECK_OK(neuro_pool_release(pool));
    CHECK_OK(neuro_pool_trim(plain, 0, NULL));
    CHECK_OK(neuro_pool_release(plain));
    CHECK(descriptors() == at_first);
}

int main(void) {
    /* Before any of them opens a device: a child of a process that has one is refused. */
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0 || (child = fork()) < 0) {
        perror("test_share");
        return 1;
    }
    if (child == 0) {
        close(sockets[0]);
        /* Not _exit: drivers tidy up at the end, which valgrind wants to see. */
        exit(other_process(sockets[1]));
    }
    close(sockets[1]);
    neuro_pool_t *pool = exporting();
    neuro_tensor_t *tensor = NULL;
    if (pool == NULL || neuro_tensor_zeros(pool, NEURO_DTYPE_INT32, 2, shape, &tensor) != NEURO_OK) {
        int required = getenv("NEURO_REQUIRE_VULKAN") != NULL;
        printf("%s memory of Vulkan devices by descriptor: %s\n", required ? "FAILED" : "SKIPPED:", neuro_last_error());
        return required;
    }
    neuro_tensor_release(tensor);
    neuro_pool_release(pool);
    RUN(two_processes_use_one_memory);
    RUN(bad_input);
    return DONE();
}
