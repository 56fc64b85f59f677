//! A device that plays one of CUDA's: memory and queues of the simulated device, and two kernels of its own that modules are said to
//! have.

use std::ffi::{CStr, c_void};
use std::sync::{Arc, Mutex};

use crate::backend::raw::{QueueTurn, RawVulkan, SemaphoreValue};
use crate::backend::raw_cuda::{Handles, HeldEvent, Launch, RawCuda};
use crate::backend::sim::Sim;
use crate::backend::{Backend, Facts, Op, Queue, Refusal, Slab, SlabId, SlabKind, Span, Ticket};
use crate::device::Device;
use crate::pool::MemoryPool;
use crate::pool::device::Engine;
use crate::sync::global::lock;

/// The kernels: `copy(const float* from, float* to, unsigned int n)` and `fill(float* to, float value, unsigned int n)`.
pub(super) const KERNELS: [(&str, &str); 2] = [
    ("copy", "const float* from, float* to, unsigned int n"),
    ("fill", "float* to, float value, unsigned int n"),
];
const STREAM: usize = 0x57;
/// Addresses: the slab above, the place in it below.
const SLAB: u32 = 40;

#[derive(Debug)]
pub(super) struct Fake {
    pub(super) sim: Sim,
    capability: (u32, u32),
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What was given to be loaded, in that order; a module's handle is its place from 1 on.
    images: Vec<Vec<u8>>,
    unloaded: Vec<usize>,
    /// Grid, block and shared bytes of each launch.
    launches: Vec<([u32; 3], [u32; 3], u32)>,
    turn: Option<(Vec<SemaphoreValue>, SemaphoreValue)>,
    refuses_binaries: bool,
    refuses_launches: bool,
}

impl Fake {
    /// A device of this capability, with a pool.
    pub(super) fn new(seed: u64, capability: (u32, u32)) -> (&'static Self, Arc<Engine>, MemoryPool) {
        let fake: &'static Self = Box::leak(Box::new(Self {
            sim: Sim::new(seed),
            capability,
            state: Mutex::default(),
        }));
        let engine = Arc::new(Engine::new(Device::Cuda(0), fake));
        let pool = MemoryPool::of_engine(Arc::clone(&engine), 4 << 20);
        (fake, engine, pool)
    }

    pub(super) fn images(&self) -> Vec<Vec<u8>> {
        lock(&self.state).images.clone()
    }

    pub(super) fn unloaded(&self) -> Vec<usize> {
        lock(&self.state).unloaded.clone()
    }

    pub(super) fn launches(&self) -> Vec<([u32; 3], [u32; 3], u32)> {
        lock(&self.state).launches.clone()
    }

    pub(super) fn refuse_binaries(&self) {
        lock(&self.state).refuses_binaries = true;
    }

    pub(super) fn refuse_launches(&self) {
        lock(&self.state).refuses_launches = true;
    }
}

fn refusal(call: &'static str, code: i64, meaning: &str) -> Refusal {
    let meaning = meaning.to_owned();
    Refusal::Call { call, code, meaning }
}

fn span(address: u64, floats: u32) -> Span {
    Span {
        slab: SlabId(address >> SLAB),
        offset: address & ((1 << SLAB) - 1),
        bytes: u64::from(floats) * 4,
    }
}

impl Backend for Fake {
    fn facts(&self) -> &Facts {
        self.sim.facts()
    }

    fn allocate(&self, bytes: u64, kind: SlabKind) -> Result<Slab, Refusal> {
        self.sim.allocate(bytes, kind)
    }

    unsafe fn free(&self, slab: SlabId) {
        // SAFETY: forwarded contract.
        unsafe { self.sim.free(slab) };
    }

    unsafe fn submit(&self, queue: Queue, waits: &[Ticket], ops: &[Op]) -> Result<Ticket, Refusal> {
        // SAFETY: forwarded contract.
        unsafe { self.sim.submit(queue, waits, ops) }
    }

    fn done(&self, queue: Queue) -> Result<u64, Refusal> {
        self.sim.done(queue)
    }

    fn wait(&self, ticket: Ticket) -> Result<(), Refusal> {
        self.sim.wait(ticket)
    }

    fn cuda(&self) -> Option<&dyn RawCuda> {
        Some(self)
    }

    fn host_uses(&self, span: Span, writes: bool) {
        self.sim.host_uses(span, writes);
    }

    fn handed_out(&self, span: Span) {
        self.sim.handed_out(span);
    }
}

impl RawCuda for Fake {
    fn handles(&self) -> Handles {
        Handles {
            device: 0,
            context: 1,
            compute: STREAM,
            upload: 2,
            download: 3,
            capability: self.capability,
            driver_version: 13000,
        }
    }

    fn address(&self, span: Span) -> u64 {
        span.slab.0 << SLAB | span.offset
    }

    fn device_at(&self, _: u64) -> Result<Option<u32>, Refusal> {
        Ok(Some(0))
    }

    unsafe fn open_stream(&self, _: usize) -> Result<Queue, Refusal> {
        Err(refusal("open_stream", 1, "no streams here"))
    }

    fn close_stream(&self, _: Queue) {}

    unsafe fn with_stream(
        &self,
        queue: Queue,
        waits: &[Ticket],
        work: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Ticket>, Refusal> {
        assert_eq!(queue, Queue::COMPUTE);
        let mut in_turn = |turn: &QueueTurn<'_>| {
            lock(&self.state).turn = Some((turn.waits.to_vec(), turn.signal));
            work(STREAM)
        };
        // SAFETY: `launch` submits once, behind the turn's waits, and signals; what else is asked is by contract.
        unsafe { self.sim.with_queue(waits, &mut in_turn) }
    }

    fn so_far(&self, queue: Queue) -> Result<Ticket, Refusal> {
        let number = self.sim.submitted(queue);
        Ok(Ticket { queue, number })
    }

    fn hold(&self, _: Queue, _: &[Ticket]) -> Result<(), Refusal> {
        Ok(())
    }

    fn load_module(&self, image: &[u8]) -> Result<usize, Refusal> {
        assert_eq!(image.last(), Some(&0));
        let mut state = lock(&self.state);
        state.images.push(image.to_vec());
        if image.starts_with(b"\x7fELF") && state.refuses_binaries {
            return Err(refusal("cuModuleLoadDataEx", 209, "no binary for this device"));
        }
        if image.starts_with(b"nonsense") {
            return Err(refusal("cuModuleLoadDataEx", 218, "no PTX"));
        }
        Ok(state.images.len())
    }

    unsafe fn unload_module(&self, module: usize) {
        lock(&self.state).unloaded.push(module);
    }

    fn function(&self, _: usize, name: &CStr) -> Result<usize, Refusal> {
        let place = KERNELS
            .iter()
            .position(|(kernel, _)| kernel.as_bytes() == name.to_bytes());
        place.ok_or_else(|| refusal("cuModuleGetFunction", 500, "named symbol not found"))
    }

    unsafe fn launch(&self, stream: usize, launch: &Launch<'_>) -> Result<(), Refusal> {
        assert_eq!((stream, launch.params.len()), (STREAM, 3));
        let mut state = lock(&self.state);
        let turn = state.turn.take();
        if state.refuses_launches {
            return Err(refusal("cuLaunchKernel", 701, "too many resources"));
        }
        state.launches.push((launch.grid, launch.block, launch.shared_bytes));
        let number = |at: usize| launch.params[at].cast::<u32>();
        let address = |at: usize| launch.params[at].cast_const().cast::<u64>();
        assert!(
            launch
                .params
                .iter()
                .all(|param: &*mut c_void| param.addr().is_multiple_of(16))
        );
        // SAFETY: the parameters are those of the kernel, by contract, each where its type can be read.
        let op = unsafe {
            let n = number(2).read();
            match launch.function {
                0 => Op::Copy {
                    from: span(address(0).read(), n),
                    to: span(address(1).read(), n),
                },
                _ => Op::Fill {
                    to: span(address(0).read(), n),
                    value: number(1).read(),
                },
            }
        };
        let (waits, signal) = turn.expect("a launch is in a turn");
        self.sim.submit_in_turn(&waits, signal, &[op]);
        Ok(())
    }

    fn is_for_peers(&self, _: SlabId) -> bool {
        false
    }

    fn events_of(&self, _: &[Ticket]) -> Result<Vec<HeldEvent>, Refusal> {
        Ok(Vec::new())
    }

    fn wait_for_event(&self, _: usize, _: &HeldEvent) -> Result<(), Refusal> {
        Ok(())
    }

    unsafe fn order_stream(&self, _: usize, _: &[Ticket]) -> Result<(), Refusal> {
        Err(refusal("order_stream", 1, "no streams here"))
    }

    unsafe fn finish_stream(&self, _: usize) -> Result<(), Refusal> {
        Err(refusal("finish_stream", 1, "no streams here"))
    }

    unsafe fn mark_stream(&self, _: usize) -> Result<HeldEvent, Refusal> {
        Err(refusal("mark_stream", 1, "no streams here"))
    }

    unsafe fn check_capture(&self, _: usize) -> Result<(), Refusal> {
        Err(refusal("check_capture", 1, "no streams here"))
    }

    unsafe fn copy_to_peer(&self, _: usize, _: Span, _: (Handles, u64), _: usize) -> Result<(), Refusal> {
        Ok(())
    }
}
