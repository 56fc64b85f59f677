/* A shader of one's own on a tensor of a pool, where it lies: nothing is copied, and nobody waits before the result is read.
 *
 *   cc vulkan.c $(pkg-config --cflags --libs neuro_memory) -o vulkan
 *
 * It needs Vulkan's headers (Debian, Ubuntu: apt install libvulkan-dev), and links nothing of Vulkan: all functions come from
 * the library. Without a Vulkan device it says SKIPPED, or fails where NEURO_REQUIRE_VULKAN is set.
 */
#define VK_NO_PROTOTYPES
#include <neuro_memory.h>
#include <stdio.h>
#include <stdlib.h>
#include <vulkan/vulkan_core.h>

/* Compiled from
 *
 *   layout(local_size_x = 64) in;
 *   layout(set = 0, binding = 0) buffer Block { float data[]; };
 *   void main() {
 *       uint x = gl_GlobalInvocationID.x;
 *       if (x < data.length()) data[x] = data[x] + data[x];
 *   }
 */
static const uint32_t shader[] = {
    0x07230203, 0x00010300, 0, 27, 0, /* SPIR-V 1.3, ids below 27 */
    0x00020011, 1, /* OpCapability Shader */
    0x0003000e, 0, 1, /* OpMemoryModel Logical GLSL450 */
    0x0006000f, 5, 1, 0x6e69616d, 0, 2, /* OpEntryPoint GLCompute %main "main" %id */
    0x00060010, 1, 17, 64, 1, 1, /* OpExecutionMode %main LocalSize 64 1 1 */
    0x00040047, 2, 11, 28, /* OpDecorate %id BuiltIn GlobalInvocationId */
    0x00040047, 3, 6, 4, /* OpDecorate %floats ArrayStride 4 */
    0x00030047, 4, 2, /* OpDecorate %block Block */
    0x00050048, 4, 0, 35, 0, /* OpMemberDecorate %block 0 Offset 0 */
    0x00040047, 5, 34, 0, /* OpDecorate %data DescriptorSet 0 */
    0x00040047, 5, 33, 0, /* OpDecorate %data Binding 0 */
    0x00020013, 6, /* %void = OpTypeVoid */
    0x00030021, 7, 6, /* %function = OpTypeFunction %void */
    0x00020014, 8, /* %bool = OpTypeBool */
    0x00040015, 9, 32, 0, /* %u32 = OpTypeInt 32 0 */
    0x00030016, 10, 32, /* %f32 = OpTypeFloat 32 */
    0x00040017, 11, 9, 3, /* %vec3 = OpTypeVector %u32 3 */
    0x00040020, 12, 1, 11, /* %in_vec3 = OpTypePointer Input %vec3 */
    0x00040020, 13, 1, 9, /* %in_u32 = OpTypePointer Input %u32 */
    0x0003001d, 3, 10, /* %floats = OpTypeRuntimeArray %f32 */
    0x0003001e, 4, 3, /* %block = OpTypeStruct %floats */
    0x00040020, 14, 12, 4, /* %to_block = OpTypePointer StorageBuffer %block */
    0x00040020, 15, 12, 10, /* %to_f32 = OpTypePointer StorageBuffer %f32 */
    0x0004002b, 9, 16, 0, /* %zero = OpConstant %u32 0 */
    0x0004003b, 12, 2, 1, /* %id = OpVariable %in_vec3 Input */
    0x0004003b, 14, 5, 12, /* %data = OpVariable %to_block StorageBuffer */
    0x00050036, 6, 1, 0, 7, /* %main = OpFunction %void None %function */
    0x000200f8, 17, /* %entry = OpLabel */
    0x00050041, 13, 18, 2, 16, /* %at_x = OpAccessChain %in_u32 %id %zero */
    0x0004003d, 9, 19, 18, /* %x = OpLoad %u32 %at_x */
    0x00050044, 9, 20, 5, 0, /* %length = OpArrayLength %u32 %data 0 */
    0x000500b0, 8, 21, 19, 20, /* %inside = OpULessThan %bool %x %length */
    0x000300f7, 22, 0, /* OpSelectionMerge %end None */
    0x000400fa, 21, 23, 22, /* OpBranchConditional %inside %body %end */
    0x000200f8, 23, /* %body = OpLabel */
    0x00060041, 15, 24, 5, 16, 19, /* %element = OpAccessChain %to_f32 %data %zero %x */
    0x0004003d, 10, 25, 24, /* %value = OpLoad %f32 %element */
    0x00050081, 10, 26, 25, 25, /* %twice = OpFAdd %f32 %value %value */
    0x0003003e, 24, 26, /* OpStore %element %twice */
    0x000200f9, 22, /* OpBranch %end */
    0x000200f8, 22, /* %end = OpLabel */
    0x000100fd, /* OpReturn */
    0x00010038, /* OpFunctionEnd */
};

/* The functions that are used. */
#define FUNCTIONS(X) \
    X(AllocateCommandBuffers) X(AllocateDescriptorSets) X(BeginCommandBuffer) X(CmdBindDescriptorSets) X(CmdBindPipeline) \
    X(CmdDispatch) X(CmdPipelineBarrier) X(CreateCommandPool) X(CreateComputePipelines) X(CreateDescriptorPool) \
    X(CreateDescriptorSetLayout) X(CreatePipelineLayout) X(CreateShaderModule) X(EndCommandBuffer) X(QueueSubmit) \
    X(UpdateDescriptorSets)
#define DECLARE(name) static PFN_vk##name vk##name;
FUNCTIONS(DECLARE)

/* Ends the program with the library's own words where a call fails. */
static void must(neuro_status_t status) {
    if (status != NEURO_OK) {
        fprintf(stderr, "%s: %s\n", neuro_status_name(status), neuro_last_error());
        exit(1);
    }
}

/* The same for Vulkan's calls. */
#define VK(call)                                             \
    do {                                                     \
        VkResult result = (call);                            \
        if (result != VK_SUCCESS) {                          \
            fprintf(stderr, "%s: VkResult %d\n", #call, result); \
            exit(1);                                         \
        }                                                    \
    } while (0)

static VkDevice device;

static void load(const neuro_vulkan_handles_t *handles) {
    PFN_vkGetInstanceProcAddr get = (PFN_vkGetInstanceProcAddr)handles->get_instance_proc_addr;
    PFN_vkGetDeviceProcAddr of_device =
        (PFN_vkGetDeviceProcAddr)get((VkInstance)(uintptr_t)handles->instance, "vkGetDeviceProcAddr");
    device = (VkDevice)(uintptr_t)handles->device;
#define LOAD(name) vk##name = (PFN_vk##name)of_device(device, "vk" #name);
    FUNCTIONS(LOAD)
}

/* Commands that double the numbers of a tensor, and make that visible to the host. What they need stays until the program ends. */
static VkCommandBuffer record(uint32_t family, const neuro_vulkan_buffer_t *place) {
    VkDescriptorSetLayoutBinding binding = {0, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, NULL};
    VkDescriptorSetLayout set_layout;
    VK(vkCreateDescriptorSetLayout(
        device,
        &(VkDescriptorSetLayoutCreateInfo){
            .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO, .bindingCount = 1, .pBindings = &binding},
        NULL, &set_layout));
    VkPipelineLayout layout;
    VK(vkCreatePipelineLayout(
        device,
        &(VkPipelineLayoutCreateInfo){
            .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .setLayoutCount = 1, .pSetLayouts = &set_layout},
        NULL, &layout));
    VkShaderModule module;
    VK(vkCreateShaderModule(
        device,
        &(VkShaderModuleCreateInfo){
            .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = sizeof shader, .pCode = shader},
        NULL, &module));
    VkPipeline pipeline;
    VK(vkCreateComputePipelines(
        device, VK_NULL_HANDLE, 1,
        &(VkComputePipelineCreateInfo){
            .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
            .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                      .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                      .module = module,
                      .pName = "main"},
            .layout = layout},
        NULL, &pipeline));

    VkDescriptorPool sets;
    VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1};
    VK(vkCreateDescriptorPool(
        device,
        &(VkDescriptorPoolCreateInfo){
            .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO, .maxSets = 1, .poolSizeCount = 1, .pPoolSizes = &size},
        NULL, &sets));
    VkDescriptorSet set;
    VK(vkAllocateDescriptorSets(
        device,
        &(VkDescriptorSetAllocateInfo){
            .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
            .descriptorPool = sets,
            .descriptorSetCount = 1,
            .pSetLayouts = &set_layout},
        &set));
    /* Its own bytes, never the whole buffer: other tensors lie there, too. */
    VkDescriptorBufferInfo range = {(VkBuffer)(uintptr_t)place->buffer, place->offset, place->bytes};
    VkWriteDescriptorSet write = {
        .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
        .dstSet = set,
        .descriptorCount = 1,
        .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
        .pBufferInfo = &range};
    vkUpdateDescriptorSets(device, 1, &write, 0, NULL);

    VkCommandPool pool;
    VK(vkCreateCommandPool(
        device,
        &(VkCommandPoolCreateInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .queueFamilyIndex = family}, NULL,
        &pool));
    VkCommandBuffer commands;
    VK(vkAllocateCommandBuffers(
        device,
        &(VkCommandBufferAllocateInfo){
            .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, .commandPool = pool, .commandBufferCount = 1},
        &commands));
    VK(vkBeginCommandBuffer(commands, &(VkCommandBufferBeginInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO}));
    vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, layout, 0, 1, &set, 0, NULL);
    vkCmdDispatch(commands, (uint32_t)((place->bytes / sizeof(float) + 63) / 64), 1, 1);
    VkMemoryBarrier written = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_HOST_READ_BIT};
    vkCmdPipelineBarrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &written, 0,
                         NULL, 0, NULL);
    VK(vkEndCommandBuffer(commands));
    return commands;
}

/* Called by the library when it is this program's turn: submits `context`, a command buffer, as the turn says. */
static int32_t submit(void *context, const neuro_vulkan_turn_t *turn) {
    VkSemaphore waits[4], signal = (VkSemaphore)(uintptr_t)turn->signal.semaphore;
    VkPipelineStageFlags stages[4];
    uint64_t values[4];
    for (uint32_t i = 0; i < turn->wait_count; i++) {
        waits[i] = (VkSemaphore)(uintptr_t)turn->waits[i].semaphore;
        values[i] = turn->waits[i].value;
        stages[i] = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
    }
    VkCommandBuffer commands = context;
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
        .commandBufferCount = 1,
        .pCommandBuffers = &commands,
        .signalSemaphoreCount = 1,
        .pSignalSemaphores = &signal};
    return vkQueueSubmit((VkQueue)(uintptr_t)turn->queue, 1, &info, VK_NULL_HANDLE);
}

int main(void) {
    neuro_device_t vulkan = {NEURO_DEVICE_VULKAN, 0}, cpu = {NEURO_DEVICE_CPU, 0};
    neuro_vulkan_handles_t handles = {.struct_size = sizeof handles};
    neuro_status_t status = neuro_vulkan_get_handles(vulkan, &handles);
    if (status == NEURO_UNAVAILABLE && getenv("NEURO_REQUIRE_VULKAN") == NULL) {
        printf("SKIPPED: examples/c/vulkan.c: %s\n", neuro_last_error());
        return 0;
    }
    must(status);
    load(&handles);

    neuro_tensor_t *numbers, *there, *back;
    int64_t shape[] = {1000, 1000};
    must(neuro_tensor_empty(NULL, NEURO_DTYPE_FLOAT32, 2, shape, &numbers));
    must(neuro_tensor_fill_f64(numbers, 1.5));
    must(neuro_tensor_to_device(numbers, vulkan, &there));

    neuro_vulkan_buffer_t place = {.struct_size = sizeof place};
    must(neuro_vulkan_get_buffer(there, &place));
    VkCommandBuffer commands = record(handles.queue_family, &place);
    uint32_t access = NEURO_ACCESS_WRITE;
    must(neuro_vulkan_with_queue((const neuro_tensor_t *const *)&there, &access, 1, submit, commands));

    must(neuro_tensor_to_device(there, cpu, &back)); /* behind the shader */
    const float *values = neuro_tensor_get_const_data(back);
    for (size_t i = 0; i < neuro_tensor_get_numel(back); i++) {
        if (values[i] != 3.0f) {
            fprintf(stderr, "element %zu is %g\n", i, values[i]);
            return 1;
        }
    }
    printf("1.5, doubled on vulkan:0: %g\n", values[0]);
    must(neuro_tensor_release(numbers));
    must(neuro_tensor_release(there));
    must(neuro_tensor_release(back));
    return 0;
}
