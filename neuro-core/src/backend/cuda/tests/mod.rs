//! The backend on the simulated driver: the contract, what older drivers lack, what drivers say, and how it ends.

mod context;
mod contract;
mod ends;
mod faults;
mod guests;
mod machine;
mod older;
mod refusals;
mod steady;

use std::ffi::c_void;
use std::mem::transmute;

use cuda_sim::World;

use super::driver::Driver;
use super::*;
use crate::backend::{OWN_QUEUES, Span};

/// The simulated driver's table; each is a driver of its own to the library, as each world is.
pub(crate) fn driver() -> &'static Driver {
    driver_without(&[]).expect("it has all calls")
}

/// The driver that this machine has: of its cards, or the simulated one where the environment has that stand in for it; `None`, and words that
/// say so, where there is none. `NEURO_REQUIRE_CUDA` in the environment has the test fail instead.
pub(crate) fn driver_of_the_machine() -> Option<&'static Driver> {
    static SAID: std::sync::Once = std::sync::Once::new();
    match loader::driver() {
        Ok(driver) => Some(driver),
        Err(why) => {
            assert!(
                std::env::var_os("NEURO_REQUIRE_CUDA").is_none(),
                "NEURO_REQUIRE_CUDA is set: {why}"
            );
            // On the real standard error, which no test runner holds back: a skip must not look like a pass.
            SAID.call_once(|| {
                let text = format!("\nSKIPPED: the driver of this machine: needs hardware: {why}\n");
                crate::backend::host::os::say(&text);
            });
            None
        }
    }
}

/// How many devices a driver shows, and whether they are simulated ones.
pub(crate) fn shown_by(driver: &Driver) -> (u32, bool) {
    let count = discover::count(driver).unwrap();
    let is_simulated = count > 0 && discover::one(driver, 0).unwrap().name.starts_with("Simulated");
    (count, is_simulated)
}

/// That driver, without some of its calls.
fn driver_without(missing: &[&str]) -> Result<&'static Driver, &'static str> {
    let address_of = |name: &str| cuda_sim::address_of(name).filter(|_| !missing.contains(&name));
    // SAFETY: the simulated driver has the calls of these names, of these types, as long as the process lives.
    unsafe { Driver::of(address_of) }.map(|driver| &*Box::leak(Box::new(driver)))
}

impl CudaDevice {
    /// A device of the world that this thread is in.
    pub(crate) fn simulated(driver: &'static Driver, ordinal: u32) -> &'static Self {
        Self::simulated_with(driver, ordinal).expect("it is there")
    }

    fn simulated_with(driver: &'static Driver, ordinal: u32) -> Result<&'static Self, String> {
        loader::start(driver)?;
        Self::make(driver, ordinal).map(|device| &*Box::leak(Box::new(device)))
    }
}

/// A device of a world of its own.
struct Bed {
    world: World,
    device: &'static CudaDevice,
}

impl Bed {
    fn new(seed: u64) -> Self {
        Self::with(driver(), seed)
    }

    fn with(driver: &'static Driver, seed: u64) -> Self {
        let world = World::new(seed);
        world.set_memory(0, 64 << 20);
        let _here = world.enter();
        let device = CudaDevice::simulated(driver, 0);
        Self { world, device }
    }

    /// A fill of the whole slab on a queue, behind some work.
    fn fill(&self, queue: Queue, waits: &[Ticket], slab: &Slab, value: u32) -> Result<Ticket, Refusal> {
        let to = part(slab, 0, slab.bytes);
        // SAFETY: tests keep slabs until all work is done, and order their work.
        unsafe { self.device.submit(queue, waits, &[Op::Fill { to, value }]) }
    }

    /// A copy of as many bytes as the shorter has.
    fn copy(&self, queue: Queue, waits: &[Ticket], from: &Slab, to: &Slab) -> Result<Ticket, Refusal> {
        let bytes = from.bytes.min(to.bytes);
        let (from, to) = (part(from, 0, bytes), part(to, 0, bytes));
        // SAFETY: as above.
        unsafe { self.device.submit(queue, waits, &[Op::Copy { from, to }]) }
    }

    fn slab(&self, bytes: u64, kind: SlabKind) -> Slab {
        self.device.allocate(bytes, kind).unwrap()
    }

    fn free(&self, slab: &Slab) {
        // SAFETY: tests wait for all work first.
        unsafe { self.device.free(slab.id) };
    }

    fn open(&self, stream: usize) -> Result<Queue, Refusal> {
        // SAFETY: tests close a stream before they destroy it.
        unsafe { self.device.open_stream(stream) }
    }

    /// Ends the device: nothing was wrong, and nothing is left.
    fn end(self) {
        self.shut_down(&[]);
        assert_eq!(self.world.findings(), Vec::<String>::new());
        assert_eq!(self.world.leaks(), Vec::<String>::new());
    }

    fn shut_down(&self, keep: &[SlabId]) {
        // SAFETY: tests use nothing of the device afterwards.
        unsafe { self.device.shut_down(keep) };
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the driver found: {:#?}", self.world.findings());
        }
    }
}

fn part(slab: &Slab, offset: u64, bytes: u64) -> Span {
    let slab = slab.id;
    Span { slab, offset, bytes }
}

/// What the host sees in a slab.
fn words(slab: &Slab) -> Vec<u32> {
    let first = slab.host.unwrap().cast::<u32>();
    // SAFETY: the slab is that long, and nothing writes to it when tests look.
    (0..slab.bytes as usize / 4)
        .map(|at| unsafe { first.add(at).read_volatile() })
        .collect()
}

/// A call of the driver, by its name and its type, as a program makes it that uses CUDA by itself: its code.
macro_rules! call {
    ($name:literal: fn($($argument:ty),*), $($value:expr),*) => {{
        let address = cuda_sim::address_of($name).unwrap().as_ptr();
        // SAFETY: the driver documents the call of this name to have this type.
        let call = unsafe { transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) -> u32>(address) };
        // SAFETY: tests give live handles, and room for answers.
        unsafe { call($($value),*) }
    }};
}
use call;

/// Does `work` with a context current.
fn in_context<T>(context: usize, work: impl FnOnce() -> T) -> T {
    let mut was = 0;
    assert_eq!(call!("cuCtxPushCurrent_v2": fn(usize), context), 0);
    let done = work();
    assert_eq!(call!("cuCtxPopCurrent_v2": fn(*mut usize), &mut was), 0);
    assert_eq!(was, context);
    done
}

/// The context that is current on this thread, which has entered a world.
fn current() -> usize {
    let mut context = usize::MAX;
    assert_eq!(call!("cuCtxGetCurrent": fn(*mut usize), &mut context), 0);
    context
}

/// A stream of the program's own, of a context.
fn stream_of(context: usize) -> usize {
    let mut stream = 0;
    let code = in_context(context, || call!("cuStreamCreate": fn(*mut usize, u32), &mut stream, 1));
    assert_eq!(code, 0);
    stream
}

fn destroy(context: usize, stream: usize) {
    let code = in_context(context, || call!("cuStreamDestroy_v2": fn(usize), stream));
    assert_eq!(code, 0);
}
