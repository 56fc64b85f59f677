//! Worlds: each a driver of its own, with devices that no other world sees.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::calls::Calls;
use crate::codes::Code;
use crate::gate::{DEVICES_OF_A_WORLD, Locked};
use crate::handle;
use crate::state::State;
use crate::{contents, protect, registry};

/// What a world is, for all threads.
#[derive(Debug)]
pub(crate) struct Inner {
    state: Mutex<State>,
    /// A function of the host has returned.
    returned: Condvar,
    patience_ms: AtomicU64,
}

impl Inner {
    fn new(number: u32, seed: u64, devices: usize, peers: bool) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            state: Mutex::new(State::new(me.clone(), number, seed, devices, peers)),
            returned: Condvar::new(),
            patience_ms: AtomicU64::new(10_000),
        })
    }

    /// World 0, as variables of the environment describe it.
    pub(crate) fn of_the_environment() -> Arc<Self> {
        let number = |name: &str, or: u64| -> u64 {
            let said = std::env::var(format!("NEURO_CUDA_SIM_{name}")).ok();
            said.and_then(|words| words.trim().parse().ok()).unwrap_or(or)
        };
        let devices = number("DEVICES", 1).min(u64::from(DEVICES_OF_A_WORLD)) as usize;
        let world = Self::new(0, number("SEED", 1), devices, number("PEERS", 0) != 0);
        let mut state = world.lock();
        let memory = number("MEMORY", 0);
        if memory > 0 {
            state.devices.iter_mut().for_each(|device| device.memory = memory);
        }
        state
            .faults
            .plan(None, number("FAIL_NTH", 0), number("FAIL_CODE", 999) as Code);
        state.protect = number("PROTECT", 1) != 0;
        drop(state);
        world
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.patience_ms.load(Ordering::Relaxed))
    }

    /// Lets the lock go until a function of the host returns, or for as long as that.
    pub(crate) fn wait<'a>(&self, state: MutexGuard<'a, State>, patience: Duration) -> MutexGuard<'a, State> {
        self.returned
            .wait_timeout(state, patience)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    pub(crate) fn wake(&self) {
        self.returned.notify_all();
    }
}

/// Takes its world away when it is dropped.
#[derive(Debug)]
struct Owner {
    inner: Arc<Inner>,
    number: u32,
}

impl Drop for Owner {
    fn drop(&mut self) {
        registry::remove(self.number);
    }
}

/// A driver of its own. When the last clone is dropped its handles lead nowhere, and its memory is gone.
#[derive(Clone, Debug)]
pub struct World(Arc<Owner>);

/// The world is that of this thread as long as this lives.
#[derive(Debug)]
pub struct Entered {
    world: World,
    of_this_thread: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        registry::pop(&self.world.0.inner);
    }
}

impl World {
    /// With one device.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_devices(seed, 1, false)
    }

    /// With some devices, at most 16; `peers`: each may use the memory of the others, once that is enabled.
    #[must_use]
    pub fn with_devices(seed: u64, devices: usize, peers: bool) -> Self {
        let devices = devices.min(DEVICES_OF_A_WORLD as usize);
        let mut of = 0;
        let inner = registry::add(|number| {
            of = number;
            Inner::new(number, seed, devices, peers)
        });
        Self(Arc::new(Owner { inner, number: of }))
    }

    /// Makes it the world of this thread: what has no handle (`cuInit`, `cuDeviceGet`, `cuDeviceGetCount`) is about it.
    #[must_use]
    pub fn enter(&self) -> Entered {
        registry::push(Arc::clone(&self.0.inner));
        Entered {
            world: self.clone(),
            of_this_thread: PhantomData,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.inner.lock()
    }

    /// The `CUdevice` of its `ordinal`-th device.
    #[must_use]
    pub fn device(&self, ordinal: u32) -> i32 {
        (self.0.number * DEVICES_OF_A_WORLD + ordinal) as i32
    }

    /// What was wrong so far. All that was submitted is done first, so that all of it is looked at; the host does not know of that.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let mut locked = Locked::new(&self.0.inner);
        locked.run_all();
        locked.findings().to_vec()
    }

    /// What was not given back.
    #[must_use]
    pub fn leaks(&self) -> Vec<String> {
        self.state().leaks()
    }

    /// What was called how often.
    #[must_use]
    pub fn calls(&self) -> Calls {
        let state = self.state();
        let mut calls = state.calls.clone();
        calls.device_bytes = state.devices.iter().map(|device| device.used).sum();
        calls
    }

    /// The device has so much memory from now on.
    pub fn set_memory(&self, ordinal: u32, bytes: u64) {
        if let Some(device) = self.state().devices.get_mut(ordinal as usize) {
            device.memory = bytes;
        }
    }

    /// The n-th call from now that may fail does, with this code; 0: none does. Calls that give something back never fail so.
    pub fn fail_nth(&self, n: u64, code: Code) {
        self.state().faults.plan(None, n, code);
    }

    /// The next call of that name fails with this code.
    pub fn fail_call(&self, name: &str, code: Code) {
        self.fail_nth_call(name, 1, code);
    }

    /// The n-th call of that name from now fails with this code; 0: none does.
    pub fn fail_nth_call(&self, name: &str, n: u64, code: Code) {
        self.state().faults.plan(Some(name), n, code);
    }

    /// The device is lost: every call answers this code from now on, and nothing that was submitted is done.
    pub fn lose(&self, code: Code) {
        self.state().lose(code);
        self.0.inner.wake();
    }

    /// A stream of the program's is being captured into a graph from now on, or not any more.
    pub fn capture(&self, stream: usize, captured: bool) {
        let mut state = self.state();
        let found = handle::parts(stream, handle::Kind::Stream).map(|(_, number)| number);
        if let Some(stream) = found.and_then(|number| state.streams.get_mut(number)) {
            stream.captured = captured;
        }
    }

    /// Whether pages that work still uses are protected from the host. They are at first, where that can be done.
    pub fn protect(&self, on: bool) {
        self.state().protect = on;
    }

    /// How long a wait takes before it is said that it never ends.
    pub fn set_patience(&self, patience: Duration) {
        let ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.0.inner.patience_ms.store(ms, Ordering::Relaxed);
    }
}

/// Whether pages can be protected here.
#[must_use]
pub fn can_protect() -> bool {
    cfg!(target_arch = "x86_64") && contents::passes_protection()
}

/// Takes the signal early, before a page is protected.
pub(crate) fn prepare_protection() {
    if can_protect() {
        protect::install();
    }
}
