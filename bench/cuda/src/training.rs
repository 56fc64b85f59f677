//! A program that trains, as the driver sees it: batches go up from memory that the device reaches, kernels run on the device's queue and on
//! a stream of the program's, and a loss comes back. What it computes is checked.

use bench_worker::Result;
use neuro_core::cuda::{self, Access, Function, Grid, Module};
use neuro_core::{DType, Device, DynTensor, MemoryPool};
use serde_json::{Map, Value, json};

use crate::DEVICE;
use crate::driver::Driver;

/// Elements of a batch, and of each activation.
const ELEMENTS: usize = 4096;
const LAYERS: usize = 8;
/// Steps before any that count.
const FIRST_STEPS: u32 = 30;
const LIMIT: usize = 1 << 30;

/// What is counted, and what it is called.
const COUNTED: &[&std::ffi::CStr] = &[
    c"cuMemAlloc_v2",
    c"cuMemCreate",
    c"cuMemFree_v2",
    c"cuMemHostAlloc",
    c"cuMemFreeHost",
    c"cuMemHostRegister_v2",
    c"cuMemHostUnregister",
    c"cuCtxSynchronize",
    c"cuEventCreate",
    c"cuEventDestroy_v2",
    c"cuEventRecord",
    c"cuLaunchKernel",
    c"cuMemcpyAsync",
];

/// `ones` sets elements to 1; `next` is x/2 + 1, element by element.
const PTX: &[u8] = b".version 7.0
.target sm_52
.address_size 64
.visible .entry ones(.param .u64 ones_y, .param .u32 ones_n)
{
    .reg .pred %p<2>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<4>;
    .reg .f32 %f<2>;
    ld.param.u64 %rd1, [ones_y];
    ld.param.u32 %r1, [ones_n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra $ONES_END;
    cvta.to.global.u64 %rd2, %rd1;
    mul.wide.u32 %rd3, %r5, 4;
    add.s64 %rd2, %rd2, %rd3;
    mov.f32 %f1, 0f3F800000;
    st.global.f32 [%rd2], %f1;
$ONES_END:
    ret;
}
.visible .entry next(.param .u64 next_x, .param .u64 next_y, .param .u32 next_n)
{
    .reg .pred %p<2>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<6>;
    .reg .f32 %f<4>;
    ld.param.u64 %rd1, [next_x];
    ld.param.u64 %rd2, [next_y];
    ld.param.u32 %r1, [next_n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra $NEXT_END;
    cvta.to.global.u64 %rd3, %rd1;
    cvta.to.global.u64 %rd4, %rd2;
    mul.wide.u32 %rd5, %r5, 4;
    add.s64 %rd3, %rd3, %rd5;
    add.s64 %rd4, %rd4, %rd5;
    ld.global.f32 %f1, [%rd3];
    mov.f32 %f2, 0f3F000000;
    mul.f32 %f1, %f1, %f2;
    mov.f32 %f3, 0f3F800000;
    add.f32 %f1, %f1, %f3;
    st.global.f32 [%rd4], %f1;
$NEXT_END:
    ret;
}
\0";

fn module() -> Result<Module> {
    // SAFETY: text that is closed by a zero byte.
    Ok(unsafe { Module::load(DEVICE, PTX) }?)
}

/// A kernel that writes as many elements of a tensor as it is told.
///
/// # Errors
/// Where there is no such device.
pub fn kernel() -> Result<(Module, Function)> {
    let module = module()?;
    let ones = module.function("ones", Some("float* y, unsigned n"))?;
    Ok((module, ones))
}

struct Program {
    driver: Driver,
    host: MemoryPool,
    device: MemoryPool,
    stream: cuda::Stream,
    next: Function,
    _module: Module,
    /// Blocks that each step uses and frees beside its own.
    more: u32,
    /// Blocks of the device that were freed so far.
    freed: u64,
}

impl Program {
    fn new(more: u32) -> Result<Self> {
        let driver = Driver::open()?;
        let module = module()?;
        Ok(Self {
            driver,
            host: MemoryPool::unlimited().with_gpu_support(true),
            device: MemoryPool::new_gpu(DEVICE, LIMIT)?,
            stream: driver.stream()?,
            next: module.function("next", Some("const float* x, float* y, unsigned n"))?,
            _module: module,
            more,
            freed: 0,
        })
    }

    /// A tensor that becomes the next of `x`; where `own`, on the program's stream.
    fn after(&self, x: &DynTensor, elements: usize, own: bool) -> Result<DynTensor> {
        let grid = Grid::for_elements(elements, 256)?;
        let count = (elements as u32).into();
        let y = if own {
            self.stream.empty(&self.device, &[elements], DType::F32)?
        } else {
            DynTensor::empty_in(&self.device, None, &[elements], DType::F32)?
        };
        // SAFETY: the kernel reads and writes the first `elements` elements of two tensors that have as many.
        unsafe {
            if own {
                self.stream.launch(&self.next, &grid, &[x.into(), (&y).into(), count])
            } else {
                self.next.launch(&grid, &[x.into(), (&y).into(), count])
            }
        }?;
        Ok(y)
    }

    /// Blocks of many sizes, used by work that is handed over at once, and freed while it is under way.
    fn use_more(&mut self) -> Result<()> {
        let tensors = (0..self.more)
            .map(|at| self.stream.empty(&self.device, &[64 << (at % 8)], DType::F32))
            .collect::<neuro_core::Result<Vec<_>>>()?;
        let addresses = tensors
            .iter()
            .map(cuda::pointer)
            .collect::<neuro_core::Result<Vec<_>>>()?;
        let named: Vec<_> = tensors.iter().map(|tensor| (tensor, Access::Write)).collect();
        let driver = self.driver;
        let work = |stream| {
            for (&address, tensor) in addresses.iter().zip(&tensors) {
                // SAFETY: all elements of a tensor that is named as written, on the stream that was given.
                unsafe { driver.fill(address, tensor.numel(), stream) }?;
            }
            Ok::<(), neuro_core::Error>(())
        };
        // SAFETY: as there; the first fill is refused if any is.
        unsafe { self.stream.submit(&named, work) }?;
        self.freed += u64::from(self.more);
        Ok(())
    }

    fn step(&mut self, step: u32) -> Result<()> {
        let first = (step % 7) as f32;
        let batch = DynTensor::from_slice_in(&self.host, &[ELEMENTS], &[first; ELEMENTS])?;
        let sent = batch.to_pool_async(&self.device)?;
        self.use_more()?;
        self.stream.wait_for_transfer(&sent)?;
        let mut forward = vec![sent.wait()?];
        drop((batch, sent));
        for layer in 0..LAYERS {
            let y = self.after(&forward[layer], ELEMENTS, layer % 4 == 3)?;
            forward.push(y);
        }
        let loss = self.after(&forward[LAYERS], 1, false)?;
        let mut gradient = self.after(&forward[LAYERS], ELEMENTS, false)?;
        while let Some(activation) = forward.pop() {
            let own = forward.len() % 4 == 3;
            let below = self.after(&gradient, ELEMENTS, own)?;
            drop(activation);
            gradient = below;
            self.freed += 2;
        }
        let told: f32 = loss.to_device(Device::Cpu)?.item(&[0])?;
        let right = (0..=LAYERS).fold(first, |x, _| x * 0.5 + 1.0);
        self.freed += 2; // the last gradient, and the loss
        if told != right {
            return Err(format!("step {step}: the loss is {told} instead of {right}").into());
        }
        Ok(())
    }
}

/// Per step, in the mean.
///
/// # Errors
/// Where there is no such device, a loss is wrong, or the driver has found a mistake.
pub fn tell(steps: u32, blocks: u32) -> Result<Value> {
    let mut program = Program::new(blocks)?;
    for step in 0..FIRST_STEPS {
        program.step(step)?;
    }
    let driver = program.driver;
    let count = || {
        COUNTED
            .iter()
            .map(|name| driver.count(name))
            .chain([driver.device_syncs()])
    };
    let before: Vec<u64> = count().collect();
    let freed = program.freed;
    for step in 0..steps {
        program.step(step)?;
    }
    let names = COUNTED.iter().map(|name| name.to_string_lossy().into_owned());
    let names = names.chain(["device-wide waits".to_owned()]);
    let mut calls = Map::new();
    for ((name, after), before) in names.zip(count()).zip(before) {
        calls.insert(name, json!((after - before) as f64 / f64::from(steps)));
    }
    let freed = (program.freed - freed) as f64 / f64::from(steps);
    drop(program);
    driver.check()?;
    Ok(json!({ "calls": calls, "freed": freed }))
}
