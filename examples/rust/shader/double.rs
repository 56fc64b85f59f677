//! A shader that doubles numbers, and what Vulkan wants around it: a pipeline, a descriptor set, a command buffer, a submission.
//!
//! Nothing in here is this library's: it is what any program does that speaks Vulkan, with the crate `ash`.

use ash::{Device, vk};

/// The shader, as it is compiled from
/// ```glsl
/// layout(local_size_x = 64) in;
/// layout(set = 0, binding = 0) buffer Block { float data[]; };
/// void main() {
///     uint x = gl_GlobalInvocationID.x;
///     if (x < data.length()) data[x] = data[x] + data[x];
/// }
/// ```
#[rustfmt::skip]
const SHADER: [u32; 157] = [
    0x07230203, 0x00010300, 0, 27, 0,                                // SPIR-V 1.3, ids below 27
    0x00020011, 1,                                                   // OpCapability Shader
    0x0003000e, 0, 1,                                                // OpMemoryModel Logical GLSL450
    0x0006000f, 5, 1, 0x6e69616d, 0, 2,                              // OpEntryPoint GLCompute %main "main" %id
    0x00060010, 1, 17, 64, 1, 1,                                     // OpExecutionMode %main LocalSize 64 1 1
    0x00040047, 2, 11, 28,                                           // OpDecorate %id BuiltIn GlobalInvocationId
    0x00040047, 3, 6, 4,                                             // OpDecorate %floats ArrayStride 4
    0x00030047, 4, 2,                                                // OpDecorate %block Block
    0x00050048, 4, 0, 35, 0,                                         // OpMemberDecorate %block 0 Offset 0
    0x00040047, 5, 34, 0,                                            // OpDecorate %data DescriptorSet 0
    0x00040047, 5, 33, 0,                                            // OpDecorate %data Binding 0
    0x00020013, 6,                                                   // %void = OpTypeVoid
    0x00030021, 7, 6,                                                // %function = OpTypeFunction %void
    0x00020014, 8,                                                   // %bool = OpTypeBool
    0x00040015, 9, 32, 0,                                            // %u32 = OpTypeInt 32 0
    0x00030016, 10, 32,                                              // %f32 = OpTypeFloat 32
    0x00040017, 11, 9, 3,                                            // %vec3 = OpTypeVector %u32 3
    0x00040020, 12, 1, 11,                                           // %in_vec3 = OpTypePointer Input %vec3
    0x00040020, 13, 1, 9,                                            // %in_u32 = OpTypePointer Input %u32
    0x0003001d, 3, 10,                                               // %floats = OpTypeRuntimeArray %f32
    0x0003001e, 4, 3,                                                // %block = OpTypeStruct %floats
    0x00040020, 14, 12, 4,                                           // %to_block = OpTypePointer StorageBuffer %block
    0x00040020, 15, 12, 10,                                          // %to_f32 = OpTypePointer StorageBuffer %f32
    0x0004002b, 9, 16, 0,                                            // %zero = OpConstant %u32 0
    0x0004003b, 12, 2, 1,                                            // %id = OpVariable %in_vec3 Input
    0x0004003b, 14, 5, 12,                                           // %data = OpVariable %to_block StorageBuffer
    0x00050036, 6, 1, 0, 7,                                          // %main = OpFunction %void None %function
    0x000200f8, 17,                                                  // %entry = OpLabel
    0x00050041, 13, 18, 2, 16,                                       // %at_x = OpAccessChain %in_u32 %id %zero
    0x0004003d, 9, 19, 18,                                           // %x = OpLoad %u32 %at_x
    0x00050044, 9, 20, 5, 0,                                         // %length = OpArrayLength %u32 %data 0
    0x000500b0, 8, 21, 19, 20,                                       // %inside = OpULessThan %bool %x %length
    0x000300f7, 22, 0,                                               // OpSelectionMerge %end None
    0x000400fa, 21, 23, 22,                                          // OpBranchConditional %inside %body %end
    0x000200f8, 23,                                                  // %body = OpLabel
    0x00060041, 15, 24, 5, 16, 19,                                   // %element = OpAccessChain %to_f32 %data %zero %x
    0x0004003d, 10, 25, 24,                                          // %value = OpLoad %f32 %element
    0x00050081, 10, 26, 25, 25,                                      // %twice = OpFAdd %f32 %value %value
    0x0003003e, 24, 26,                                              // OpStore %element %twice
    0x000200f9, 22,                                                  // OpBranch %end
    0x000200f8, 22,                                                  // %end = OpLabel
    0x000100fd,                                                      // OpReturn
    0x00010038,                                                      // OpFunctionEnd
];

/// Numbers that one group of the shader doubles.
const GROUP: u64 = 64;

/// A semaphore and a value of it.
pub(crate) type Point = (vk::Semaphore, u64);

/// The shader on a device, ready to be recorded. Keeps all that it makes until the process ends.
pub(crate) struct Doubler {
    device: Device,
    layout: vk::PipelineLayout,
    set: vk::DescriptorSetLayout,
    pipeline: vk::Pipeline,
    commands: vk::CommandPool,
}

impl Doubler {
    /// # Errors
    /// What the driver said.
    ///
    /// # Safety
    /// The device lives, and has queues of this family, which can do kernels.
    pub(crate) unsafe fn new(device: Device, family: u32) -> Result<Self, vk::Result> {
        let binding = vk::DescriptorSetLayoutBinding::default()
            .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
            .descriptor_count(1)
            .stage_flags(vk::ShaderStageFlags::COMPUTE);
        // SAFETY: the device lives, says the caller; descriptions live in this function; handles were made just before.
        unsafe {
            let set = device.create_descriptor_set_layout(
                &vk::DescriptorSetLayoutCreateInfo::default().bindings(&[binding]),
                None,
            )?;
            let layout =
                device.create_pipeline_layout(&vk::PipelineLayoutCreateInfo::default().set_layouts(&[set]), None)?;
            let module = device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(&SHADER), None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(c"main");
            let info = vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout);
            let made = device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            device.destroy_shader_module(module, None);
            let pipeline = made.map_err(|(_, code)| code)?[0];
            let commands =
                device.create_command_pool(&vk::CommandPoolCreateInfo::default().queue_family_index(family), None)?;
            Ok(Self {
                device,
                layout,
                set,
                pipeline,
                commands,
            })
        }
    }

    /// Commands that double the `bytes / 4` numbers at `offset` of `buffer`, and make that visible to the host.
    ///
    /// # Errors
    /// What the driver said.
    ///
    /// # Safety
    /// The bytes lie in the buffer, a storage buffer, and `offset` and `bytes` are as the device wants them for one binding.
    pub(crate) unsafe fn record(
        &self,
        buffer: vk::Buffer,
        offset: u64,
        bytes: u64,
    ) -> Result<vk::CommandBuffer, vk::Result> {
        let device = &self.device;
        let size = vk::DescriptorPoolSize::default()
            .ty(vk::DescriptorType::STORAGE_BUFFER)
            .descriptor_count(1);
        // SAFETY: all handles are of the device, and nobody else uses the pools: this value is one thread's.
        unsafe {
            let pool = device.create_descriptor_pool(
                &vk::DescriptorPoolCreateInfo::default().max_sets(1).pool_sizes(&[size]),
                None,
            )?;
            let layouts = [self.set];
            let set = device.allocate_descriptor_sets(
                &vk::DescriptorSetAllocateInfo::default()
                    .descriptor_pool(pool)
                    .set_layouts(&layouts),
            )?[0];
            let range = [vk::DescriptorBufferInfo::default()
                .buffer(buffer)
                .offset(offset)
                .range(bytes)];
            let write = vk::WriteDescriptorSet::default()
                .dst_set(set)
                .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                .buffer_info(&range);
            device.update_descriptor_sets(&[write], &[]);
            let commands = device.allocate_command_buffers(
                &vk::CommandBufferAllocateInfo::default()
                    .command_pool(self.commands)
                    .command_buffer_count(1),
            )?[0];
            device.begin_command_buffer(commands, &vk::CommandBufferBeginInfo::default())?;
            device.cmd_bind_pipeline(commands, vk::PipelineBindPoint::COMPUTE, self.pipeline);
            device.cmd_bind_descriptor_sets(commands, vk::PipelineBindPoint::COMPUTE, self.layout, 0, &[set], &[]);
            device.cmd_dispatch(commands, (bytes / 4).div_ceil(GROUP) as u32, 1, 1);
            let written = vk::MemoryBarrier::default()
                .src_access_mask(vk::AccessFlags::SHADER_WRITE)
                .dst_access_mask(vk::AccessFlags::HOST_READ);
            device.cmd_pipeline_barrier(
                commands,
                vk::PipelineStageFlags::COMPUTE_SHADER,
                vk::PipelineStageFlags::HOST,
                vk::DependencyFlags::empty(),
                &[written],
                &[],
                &[],
            );
            device.end_command_buffer(commands)?;
            Ok(commands)
        }
    }

    /// Hands commands to a queue: behind `waits`, and they raise `signal` when they are done.
    ///
    /// # Errors
    /// What the driver said; nothing was submitted then.
    ///
    /// # Safety
    /// The queue is of the device, and nobody else uses it meanwhile; the commands were recorded here, and are not under way.
    pub(crate) unsafe fn submit(
        &self,
        queue: vk::Queue,
        waits: &[Point],
        signal: Point,
        commands: &[vk::CommandBuffer],
    ) -> Result<(), vk::Result> {
        let (semaphores, values): (Vec<_>, Vec<_>) = waits.iter().copied().unzip();
        let stages = vec![vk::PipelineStageFlags::COMPUTE_SHADER; waits.len()];
        let (signalled, signal_values) = ([signal.0], [signal.1]);
        let mut numbers = vk::TimelineSemaphoreSubmitInfo::default()
            .wait_semaphore_values(&values)
            .signal_semaphore_values(&signal_values);
        let info = vk::SubmitInfo::default()
            .wait_semaphores(&semaphores)
            .wait_dst_stage_mask(&stages)
            .command_buffers(commands)
            .signal_semaphores(&signalled)
            .push_next(&mut numbers);
        // SAFETY: by contract; the description lives in this function.
        unsafe { self.device.queue_submit(queue, &[info], vk::Fence::null()) }
    }
}
