/* Vulkan's own names for what tensors lie in: handles, buffers, turns on the queue, and a device of the program's own. The shader is in
 * examples/c/vulkan.c; here a turn submits no commands, which has to be ordered all the same. Without a Vulkan device or Vulkan's
 * headers it is SKIPPED, unless NEURO_REQUIRE_VULKAN is set. */
#include "check.h"
#include <stddef.h>

#if defined(__has_include)
#if __has_include(<vulkan/vulkan_core.h>)
#define HEADERS 1
#endif
#endif

static const neuro_device_t gpu = {NEURO_DEVICE_VULKAN, 0};
static const neuro_device_t cpu = {NEURO_DEVICE_CPU, 0};

static neuro_tensor_t *ramp(neuro_device_t device) {
    neuro_tensor_t *tensor = NULL, *there = NULL;
    if (neuro_tensor_empty(NULL, NEURO_DTYPE_INT32, 1, (int64_t[]){1000}, &tensor) == NEURO_OK) {
        int32_t *values = neuro_tensor_get_data(tensor);
        for (int32_t i = 0; i < 1000; i++) {
            values[i] = i;
        }
        neuro_tensor_to_device(tensor, device, &there);
        neuro_tensor_release(tensor);
    }
    return there;
}

static int is_ramp(const neuro_tensor_t *there) {
    neuro_tensor_t *back = NULL;
    if (neuro_tensor_to_device(there, cpu, &back) != NEURO_OK) {
        return 0;
    }
    const int32_t *values = neuro_tensor_get_const_data(back);
    int right = 1;
    for (int32_t i = 0; i < 1000; i++) {
        right &= values[i] == i;
    }
    neuro_tensor_release(back);
    return right;
}

/* What a turn was, and what is said of it. */
typedef struct {
    int calls;
    int32_t answer;
    neuro_vulkan_turn_t turn;
    neuro_vulkan_semaphore_value_t waits[4];
} seen_t;

static int32_t look(void *context, const neuro_vulkan_turn_t *turn) {
    seen_t *seen = context;
    seen->calls++;
    seen->turn = *turn;
    if (turn->wait_count > 0) {
        memcpy(seen->waits, turn->waits, turn->wait_count * sizeof *turn->waits);
    }
    return seen->answer;
}

#define USE(tensor, access, work, context) \
    neuro_vulkan_with_queue((const neuro_tensor_t *const[]){tensor}, (const uint32_t[]){access}, 1, work, context)

static void handles_and_buffers(void) {
    neuro_vulkan_handles_t handles = {.struct_size = sizeof handles};
    CHECK_OK(neuro_vulkan_get_handles(gpu, &handles));
    CHECK(handles.get_instance_proc_addr != NULL && handles.instance != 0 && handles.physical_device != 0);
    CHECK(handles.device != 0 && handles.queue != 0 && handles.api_version >= (1u << 22 | 1u << 12));
    CHECK(handles.get_instance_proc_addr((void *)(uintptr_t)handles.instance, "vkCreateDevice") != NULL);
    CHECK(handles.get_instance_proc_addr((void *)(uintptr_t)handles.instance, "vkNoSuchThing") == NULL);

    neuro_tensor_t *first = ramp(gpu), *tensor = ramp(gpu), *part = NULL;
    neuro_vulkan_buffer_t at_first = {.struct_size = sizeof at_first}, whole = at_first, half = at_first;
    CHECK_OK(neuro_vulkan_get_buffer(first, &at_first));
    CHECK_OK(neuro_vulkan_get_buffer(tensor, &whole));
    CHECK(whole.buffer != 0 && whole.bytes == 4000 && whole.offset % 256 == 0 && whole.max_range == handles.max_range);
    CHECK(at_first.buffer != whole.buffer || at_first.offset != whole.offset);
    CHECK_OK(neuro_tensor_slice(tensor, 0, 500, 1000, 1, &part));
    CHECK_OK(neuro_vulkan_get_buffer(part, &half));
    CHECK(half.buffer == whole.buffer && half.offset == whole.offset + 2000 && half.bytes == 2000);
    /* A program with an older header has a shorter struct. */
    neuro_vulkan_buffer_t old;
    memset(&old, 0x5a, sizeof old);
    old.struct_size = offsetof(neuro_vulkan_buffer_t, max_range);
    CHECK_OK(neuro_vulkan_get_buffer(tensor, &old));
    CHECK(old.bytes == 4000 && old.max_range == UINT64_C(0x5a5a5a5a5a5a5a5a));
    CHECK_OK(neuro_tensor_release(first));
    CHECK_OK(neuro_tensor_release(part));
    CHECK_OK(neuro_tensor_release(tensor));
}

static void what_is_refused(void) {
    neuro_vulkan_handles_t handles = {.struct_size = sizeof handles};
    neuro_vulkan_buffer_t place = {.struct_size = sizeof place, .buffer = 7};
    CHECK_FAILS(neuro_vulkan_get_handles(gpu, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_vulkan_get_handles(cpu, &handles), NEURO_INVALID_ARGUMENT, "cpu is no Vulkan device");
    CHECK_FAILS(neuro_vulkan_get_handles((neuro_device_t){9, 9}, &handles), NEURO_INVALID_ARGUMENT, "device type 9");
    CHECK_FAILS(neuro_vulkan_get_handles((neuro_device_t){7, 998}, &handles), NEURO_UNAVAILABLE, "vulkan:998");
    CHECK_FAILS(neuro_vulkan_get_handles((neuro_device_t){7, 1998}, &handles), NEURO_UNAVAILABLE, "from 1000 on");
    handles.struct_size = 3;
    CHECK_FAILS(neuro_vulkan_get_handles(gpu, &handles), NEURO_INVALID_ARGUMENT, "struct_size is 3");
    CHECK_FAILS(neuro_vulkan_get_buffer(NULL, &place), NEURO_INVALID_ARGUMENT, "is NULL");
    CHECK(place.buffer == 0);

    neuro_tensor_t *here = ramp(cpu), *there = ramp(gpu);
    CHECK_FAILS(neuro_vulkan_get_buffer(here, &place), NEURO_INVALID_ARGUMENT, "lies on cpu");
    CHECK_FAILS(neuro_vulkan_get_buffer(there, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(neuro_vulkan_get_buffer((neuro_tensor_t *)&place, &place), NEURO_INVALID_ARGUMENT, "no live neuro_tensor_t");
    seen_t seen = {0};
    const neuro_tensor_t *both[] = {there, here};
    const uint32_t access[] = {NEURO_ACCESS_READ, NEURO_ACCESS_READ};
    CHECK_FAILS(neuro_vulkan_with_queue(both, access, 2, look, &seen), NEURO_INVALID_ARGUMENT, "lies on cpu");
    CHECK_FAILS(neuro_vulkan_with_queue(both, access, 0, look, &seen), NEURO_INVALID_ARGUMENT, "no tensor is named");
    CHECK_FAILS(neuro_vulkan_with_queue(NULL, access, 1, look, &seen), NEURO_INVALID_ARGUMENT, "tensors is NULL");
    CHECK_FAILS(neuro_vulkan_with_queue(both, NULL, 1, look, &seen), NEURO_INVALID_ARGUMENT, "access is NULL");
    CHECK_FAILS(neuro_vulkan_with_queue(both, access, 1, NULL, &seen), NEURO_INVALID_ARGUMENT, "work is NULL");
    CHECK_FAILS(USE(NULL, 1, look, &seen), NEURO_INVALID_ARGUMENT, "is NULL");
    CHECK_FAILS(USE(there, 0, look, &seen), NEURO_INVALID_ARGUMENT, "access 0 is unknown");
    CHECK_FAILS(USE(there, 3, look, &seen), NEURO_INVALID_ARGUMENT, "access 3 is unknown");
    CHECK(seen.calls == 0);
    CHECK_OK(neuro_tensor_release(here));
    CHECK_FAILS(USE(here, 1, look, &seen), NEURO_INVALID_ARGUMENT, "no live neuro_tensor_t");
    CHECK_OK(neuro_tensor_release(there));
}

/* What the work says when it submits nothing is named, and the next turn is the same one again. */
static void work_that_submits_nothing(void) {
    neuro_tensor_t *there = ramp(gpu);
    seen_t first = {.answer = -4}, second = {.answer = 77};
    CHECK_FAILS(USE(there, NEURO_ACCESS_WRITE, look, &first), NEURO_DRIVER, "VK_ERROR_DEVICE_LOST");
    CHECK_FAILS(USE(there, NEURO_ACCESS_WRITE, look, &second), NEURO_DRIVER, "77");
    CHECK(first.calls == 1 && second.calls == 1);
    CHECK(first.turn.struct_size == sizeof first.turn && first.turn.queue != 0 && first.turn.wait_count <= 4);
    CHECK(first.turn.signal.semaphore != 0 && first.turn.signal.value == second.turn.signal.value);
    CHECK(is_ramp(there));
    CHECK_OK(neuro_tensor_release(there));
}

#ifdef HEADERS
#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

/* A device of the program's own. It stays to the end. */
static struct {
    PFN_vkGetInstanceProcAddr get;
    PFN_vkQueueSubmit submit;
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice device;
    VkQueue queue;
    uint32_t family;
    int depth, taken, wrong;
} own;

static void lock(void *context) {
    own.wrong |= context != &own || own.depth != 0;
    own.depth++;
    own.taken++;
}

static void unlock(void *context) {
    own.wrong |= context != &own || own.depth != 1;
    own.depth--;
}

static int open_own(void) {
    neuro_vulkan_handles_t handles = {.struct_size = sizeof handles};
    if (neuro_vulkan_get_handles(gpu, &handles) != NEURO_OK) {
        return 0;
    }
    own.get = (PFN_vkGetInstanceProcAddr)handles.get_instance_proc_addr;
    PFN_vkCreateInstance create_instance = (PFN_vkCreateInstance)own.get(NULL, "vkCreateInstance");
    VkApplicationInfo program = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_2};
    VkInstanceCreateInfo instance = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &program};
    if (create_instance(&instance, NULL, &own.instance) != VK_SUCCESS) {
        return 0;
    }
#define LOAD(name) PFN_vk##name vk##name = (PFN_vk##name)own.get(own.instance, "vk" #name)
    LOAD(EnumeratePhysicalDevices);
    LOAD(GetPhysicalDeviceQueueFamilyProperties);
    LOAD(CreateDevice);
    LOAD(GetDeviceQueue);
    LOAD(QueueSubmit);
    own.submit = vkQueueSubmit;
    uint32_t count = 1;
    vkEnumeratePhysicalDevices(own.instance, &count, &own.physical);
    VkQueueFamilyProperties families[16];
    count = 16;
    vkGetPhysicalDeviceQueueFamilyProperties(own.physical, &count, families);
    while (own.family < count && !(families[own.family].queueFlags & VK_QUEUE_COMPUTE_BIT)) {
        own.family++;
    }
    VkPhysicalDeviceTimelineSemaphoreFeatures timelines = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES, .timelineSemaphore = VK_TRUE};
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = own.family,
        .queueCount = 1,
        .pQueuePriorities = &(float){1}};
    VkDeviceCreateInfo device = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &timelines,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue};
    if (vkCreateDevice(own.physical, &device, NULL, &own.device) != VK_SUCCESS) {
        return 0;
    }
    vkGetDeviceQueue(own.device, own.family, 0, &own.queue);
    return 1;
}

static neuro_vulkan_adopt_t to_adopt(void) {
    return (neuro_vulkan_adopt_t){
        .struct_size = sizeof(neuro_vulkan_adopt_t),
        .get_instance_proc_addr = (neuro_vulkan_get_instance_proc_addr_t)own.get,
        .instance = (uintptr_t)own.instance,
        .physical_device = (uintptr_t)own.physical,
        .device = (uintptr_t)own.device,
        .queue = (uintptr_t)own.queue,
        .queue_family = own.family,
        .api_version = VK_API_VERSION_1_2,
        .lock = lock,
        .unlock = unlock,
        .lock_context = &own};
}

/* A submission without commands, ordered as the turn says. */
static int32_t nothing(void *context, const neuro_vulkan_turn_t *turn) {
    look(context, turn);
    VkSemaphore waits[4], signal = (VkSemaphore)(uintptr_t)turn->signal.semaphore;
    VkPipelineStageFlags stages[4];
    uint64_t values[4];
    for (uint32_t i = 0; i < turn->wait_count; i++) {
        waits[i] = (VkSemaphore)(uintptr_t)turn->waits[i].semaphore;
        values[i] = turn->waits[i].value;
        stages[i] = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT;
    }
    VkTimelineSemaphoreSubmitInfo numbers = {
        .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
        .waitSemaphoreValueCount = turn->wait_count,
        .pWaitSemaphoreValues = values,
        .signalSemaphoreValueCount = 1,
        .pSignalSemaphoreValues = &turn->signal.value};
    VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .pNext = &numbers,
        .waitSemaphoreCount = turn->wait_count,
        .pWaitSemaphores = waits,
        .pWaitDstStageMask = stages,
        .signalSemaphoreCount = 1,
        .pSignalSemaphores = &signal};
    return own.submit((VkQueue)(uintptr_t)turn->queue, 1, &info, VK_NULL_HANDLE);
}

#define REFUSED(change, status, words)                                          \
    do {                                                                        \
        neuro_vulkan_adopt_t theirs = to_adopt();                               \
        neuro_device_t device = gpu;                                            \
        theirs.change;                                                          \
        CHECK_FAILS(neuro_vulkan_adopt(&theirs, &device), status, words);       \
        CHECK(device.type == 0 && device.id == 0);                              \
    } while (0)

static void a_device_of_the_program(void) {
    CHECK(open_own());
    neuro_vulkan_adopt_t theirs = to_adopt();
    neuro_device_t device, again;
    CHECK_FAILS(neuro_vulkan_adopt(NULL, &device), NEURO_INVALID_ARGUMENT, "theirs is NULL");
    CHECK_FAILS(neuro_vulkan_adopt(&theirs, NULL), NEURO_INVALID_ARGUMENT, "out is NULL");
    REFUSED(struct_size = 1, NEURO_INVALID_ARGUMENT, "struct_size is 1");
    REFUSED(get_instance_proc_addr = NULL, NEURO_INVALID_ARGUMENT, "get_instance_proc_addr is NULL");
    REFUSED(instance = 0, NEURO_INVALID_ARGUMENT, "instance is 0");
    REFUSED(physical_device = 0, NEURO_INVALID_ARGUMENT, "physical_device is 0");
    REFUSED(physical_device = theirs.device, NEURO_INVALID_ARGUMENT, "is none of the");
    REFUSED(device = 0, NEURO_INVALID_ARGUMENT, "device is 0");
    REFUSED(queue = 0, NEURO_INVALID_ARGUMENT, "queue is 0");
    REFUSED(queue_family = 99, NEURO_INVALID_ARGUMENT, "queue_family 99");
    REFUSED(api_version = 0, NEURO_INVALID_ARGUMENT, "Vulkan 1.1 at least");
    REFUSED(unlock = NULL, NEURO_INVALID_ARGUMENT, "one of lock and unlock is NULL");
    CHECK(own.taken == 0);

    CHECK_OK(neuro_vulkan_adopt(&theirs, &device));
    CHECK(device.type == NEURO_DEVICE_VULKAN && device.id >= 1000);
    CHECK_OK(neuro_vulkan_adopt(&theirs, &again));
    CHECK(again.type == device.type && again.id == device.id);
    REFUSED(queue++, NEURO_INVALID_ARGUMENT, "is known already");

    neuro_tensor_t *first = ramp(device), *copy = NULL;
    neuro_pool_t *pool = NULL;
    CHECK(first != NULL && neuro_tensor_get_device(first).id == device.id);
    CHECK_OK(neuro_pool_of_device(device, &pool));
    uint64_t last = 0;
    for (int round = 0; round < 10; round++) {
        seen_t seen = {0};
        CHECK_OK(neuro_tensor_to_pool(first, pool, &copy));
        const neuro_tensor_t *both[] = {first, copy, copy};
        const uint32_t access[] = {NEURO_ACCESS_READ, NEURO_ACCESS_WRITE, NEURO_ACCESS_READ};
        CHECK_OK(neuro_vulkan_with_queue(both, access, 3, nothing, &seen));
        CHECK(seen.turn.queue == theirs.queue && seen.turn.queue_family == own.family);
        CHECK(seen.turn.wait_count >= 1 && seen.turn.signal.value > last);
        last = seen.turn.signal.value;
        CHECK(is_ramp(copy));
        CHECK_OK(neuro_tensor_release(copy));
    }
    CHECK(own.taken >= 20 && own.depth == 0 && !own.wrong);
    CHECK(is_ramp(first));
    CHECK_OK(neuro_tensor_release(first));
    CHECK_OK(neuro_pool_release(pool));
}

/* One that the library opened itself has its name already. */
static void a_device_of_the_library(void) {
    neuro_vulkan_handles_t handles = {.struct_size = sizeof handles};
    CHECK_OK(neuro_vulkan_get_handles(gpu, &handles));
    neuro_vulkan_adopt_t theirs = {
        .struct_size = sizeof theirs,
        .get_instance_proc_addr = handles.get_instance_proc_addr,
        .instance = handles.instance,
        .physical_device = handles.physical_device,
        .device = handles.device,
        .queue = handles.queue,
        .queue_family = handles.queue_family,
        .api_version = handles.api_version};
    neuro_device_t device;
    CHECK_OK(neuro_vulkan_adopt(&theirs, &device));
    CHECK(device.type == gpu.type && device.id == gpu.id);
}
#endif

int main(void) {
    int required = getenv("NEURO_REQUIRE_VULKAN") != NULL;
    neuro_vulkan_handles_t handles = {.struct_size = sizeof handles};
    if (neuro_vulkan_get_handles(gpu, &handles) != NEURO_OK) {
        printf("%s Vulkan's handles: %s\n", required ? "FAILED" : "SKIPPED:", neuro_last_error());
        return required;
    }
    RUN(handles_and_buffers);
    RUN(what_is_refused);
    RUN(work_that_submits_nothing);
#ifdef HEADERS
    RUN(a_device_of_the_program);
    RUN(a_device_of_the_library);
#else
    printf("%s devices of the program: no vulkan/vulkan_core.h (Debian, Ubuntu: apt install libvulkan-dev)\n",
           required ? "FAILED" : "SKIPPED:");
    failures += required;
#endif
    return DONE();
}
