//! `Transfer`: a tensor on its way to another device, while the caller does something else.

use std::fmt;
use std::sync::Condvar;

use super::DynTensor;
use crate::backend::Queue;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::pool::MemoryPool;
use crate::pool::device::{Access, DeviceBlock, DevicePool, Engine, Landing, Waits, Way};
use crate::shape::Geometry;
use crate::sync::global::{Mutex, lock};

/// A tensor on its way. Any thread may ask; clones are the same transfer.
///
/// It holds what it needs, so the source and every handle of this may be dropped at any time: the transfer goes on to its end.
/// While it is under way nobody writes the source.
///
/// # Examples
/// ```no_run
/// # use neuro_core::{DType, Device, DynTensor};
/// let batch = DynTensor::zeros(&[64, 3, 224, 224], DType::F32)?;
/// let transfer = batch.to_device_async(Device::Vulkan(0))?;
/// // ... prepare the next batch ...
/// let there = transfer.wait()?;
/// # Ok::<(), neuro_core::Error>(())
/// ```
pub struct Transfer(std::sync::Arc<Shared>);

struct Shared {
    /// And how many handles there are: without one the result is nobody's, and goes at once.
    state: Mutex<(State, usize)>,
    came: Condvar,
    /// Whose thread brings it: a forked child has none of them.
    engine: Option<std::sync::Arc<Engine>>,
}

type Callback = Box<dyn FnOnce(Result<DynTensor>) + Send>;

enum State {
    UnderWay(Vec<Callback>),
    /// All of its work is, to a device where this is to be waited for.
    Submitted(Waits, Vec<Callback>),
    Over(Result<DynTensor>),
}

impl Transfer {
    /// Waits until the tensor is there, and gives it: as often as asked.
    ///
    /// # Errors
    /// What went wrong on the way; [`Error::DeviceLost`] in a forked child, which the parent's transfers do not reach.
    pub fn wait(&self) -> Result<DynTensor> {
        self.check()?;
        let mut state = lock(&self.0.state);
        loop {
            match &state.0 {
                State::Over(result) => return result.clone(),
                State::UnderWay(_) | State::Submitted(..) => {
                    state = self
                        .0
                        .came
                        .wait(state)
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                }
            }
        }
    }

    /// Waits until all of its work is submitted: the device that does it, and what to wait for there. `None`: it has arrived.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub(crate) fn wait_until_submitted(&self) -> Result<Option<(Device, Waits)>> {
        self.check()?;
        let mut state = lock(&self.0.state);
        loop {
            match &state.0 {
                State::Over(result) => return result.clone().map(|_| None),
                State::Submitted(waits, _) => {
                    let device = self.0.engine.as_ref().map_or(Device::Cpu, |engine| engine.device());
                    return Ok(Some((device, waits.clone())));
                }
                State::UnderWay(_) => {
                    state = self
                        .0
                        .came
                        .wait(state)
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                }
            }
        }
    }

    /// Whether it is over: [`wait`](Self::wait) would not wait.
    pub fn is_done(&self) -> bool {
        self.check().is_err() || matches!(lock(&self.0.state).0, State::Over(_))
    }

    /// Has `callback` called with what [`wait`](Self::wait) gives, once: at once, if it is over, else on the thread that brings
    /// it, with no lock held. That thread brings other transfers, too, so the callback had better be quick; should it panic,
    /// nothing else is harmed. In a forked child it is not called.
    pub fn then(&self, callback: impl FnOnce(Result<DynTensor>) + Send + 'static) {
        if self.check().is_err() {
            return;
        }
        let result = match &mut lock(&self.0.state).0 {
            State::UnderWay(callbacks) | State::Submitted(_, callbacks) => {
                callbacks.push(Box::new(callback));
                return;
            }
            State::Over(result) => result.clone(),
        };
        callback(result);
    }

    fn check(&self) -> Result<()> {
        self.0.engine.as_ref().map_or(Ok(()), |engine| engine.check())
    }

    /// One that is over.
    fn over(tensor: DynTensor) -> Self {
        Self(std::sync::Arc::new(Shared {
            state: Mutex::new((State::Over(Ok(tensor)), 1)),
            came: Condvar::new(),
            engine: None,
        }))
    }
}

impl Clone for Transfer {
    fn clone(&self) -> Self {
        if self.check().is_ok() {
            lock(&self.0.state).1 += 1;
        }
        Self(std::sync::Arc::clone(&self.0))
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if self.check().is_err() {
            return; // the parent's
        }
        let mut state = lock(&self.0.state);
        state.1 -= 1;
        let last = state.1 == 0;
        let gone = match &mut state.0 {
            State::Over(result) if last => Some(std::mem::replace(result, nobody())),
            _ => None,
        };
        drop(state);
        drop(gone); // the tensor, if nobody else has it: with no lock held
    }
}

/// What became of a tensor that nobody asks for.
fn nobody() -> Result<DynTensor> {
    Err(Error::InvalidArgument {
        op: "to_device_async",
        what: "the tensor went with the last handle of its transfer".to_owned(),
    })
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer").field("is_done", &self.is_done()).finish()
    }
}

/// The other end of a [`Transfer`]: says, once, what became of it.
struct Promise(Option<std::sync::Arc<Shared>>);

impl Promise {
    fn new(engine: &std::sync::Arc<Engine>) -> (Self, Transfer) {
        let shared = std::sync::Arc::new(Shared {
            state: Mutex::new((State::UnderWay(Vec::new()), 1)),
            came: Condvar::new(),
            engine: Some(std::sync::Arc::clone(engine)),
        });
        (Self(Some(std::sync::Arc::clone(&shared))), Transfer(shared))
    }

    /// All of its work is submitted.
    fn submitted(&self, waits: &Waits) {
        let Some(shared) = &self.0 else { return };
        let mut state = lock(&shared.state);
        if let State::UnderWay(callbacks) = &mut state.0 {
            state.0 = State::Submitted(waits.clone(), std::mem::take(callbacks));
        }
        drop(state);
        shared.came.notify_all();
    }

    fn keep(mut self, result: Result<DynTensor>) {
        self.tell(result);
    }

    fn tell(&mut self, result: Result<DynTensor>) {
        let Some(shared) = self.0.take() else { return };
        let mut state = lock(&shared.state);
        let asked = state.1 > 0;
        let callbacks = match &mut state.0 {
            State::UnderWay(callbacks) | State::Submitted(_, callbacks) => std::mem::take(callbacks),
            State::Over(_) => Vec::new(),
        };
        // From here on only those who asked have the tensor, so that who waited has it to himself if nobody else did.
        let calls: Vec<_> = callbacks
            .into_iter()
            .map(|callback| (callback, result.clone()))
            .collect();
        let unasked = if asked {
            state.0 = State::Over(result);
            None
        } else {
            state.0 = State::Over(nobody());
            Some(result)
        };
        drop(state);
        drop(unasked); // with no lock held
        shared.came.notify_all();
        for (callback, result) in calls {
            // Each of them is called, whatever another does. A panic has written its message.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| callback(result)));
        }
    }
}

impl Drop for Promise {
    /// Given up by a panic: whoever waits is told.
    fn drop(&mut self) {
        self.tell(Err(Error::InvalidArgument {
            op: "to_device_async",
            what: "the thread that brought the tensor panicked; its message says why".to_owned(),
        }));
    }
}

impl DynTensor {
    /// As [`to_device`](Self::to_device), while the caller goes on. Nobody writes the tensor until the transfer is over.
    ///
    /// # Errors
    /// What is known at once: [`Error::Unavailable`] where there is no such device; [`Error::OutOfMemory`];
    /// [`Error::DeviceLost`]. What goes wrong later is what [`Transfer::wait`] says.
    pub fn to_device_async(&self, device: Device) -> Result<Transfer> {
        if self.device() == device {
            return Ok(Transfer::over(self.clone()));
        }
        if let Some(same) = self.shared_with(device)? {
            return self.arriving(same);
        }
        self.to_pool_async(&MemoryPool::of_device(device)?)
    }

    /// As [`to_pool`](Self::to_pool), while the caller goes on. Nobody writes the tensor until the transfer is over.
    ///
    /// # Errors
    /// As [`to_device_async`](Self::to_device_async).
    pub fn to_pool_async(&self, pool: &MemoryPool) -> Result<Transfer> {
        match (self.storage.device_block(), pool.device_pool()) {
            (None, None) => self.copy_in(pool, None).map(Transfer::over),
            (None, Some(to)) => self.send_async(to),
            (Some(from), _) => self.fetch_async(from, pool),
        }
    }

    fn send_async(&self, to: &DevicePool) -> Result<Transfer> {
        self.check_host("to_device_async")?;
        let geometry = Geometry::contiguous("to_device_async", self.shape(), self.dtype)?;
        let block = to.allocate(self.nbytes(), 1, Queue::UPLOAD)?;
        let (promise, transfer) = Promise::new(to.engine());
        let source = self.clone();
        let job = move || {
            let sent = source.send(&block);
            let tensor = Self::of_block(block, geometry, source.dtype);
            let until = tensor.under_way();
            if sent.is_ok() {
                promise.submitted(&until);
            }
            let then = Box::new(move |landed: Result<()>| {
                drop(source); // the device may have read it until now
                promise.keep(sent.and(landed).map(|()| tensor));
            });
            Landing { until, then }
        };
        to.engine().start(Way::Up, Box::new(job));
        Ok(transfer)
    }

    /// `same`, the same bytes as this on the other side, as soon as the work on them is done.
    fn arriving(&self, same: Self) -> Result<Transfer> {
        let block = self.storage.device_block().or_else(|| same.storage.device_block());
        let Some(block) = block else {
            return Ok(Transfer::over(same));
        };
        let engine = std::sync::Arc::clone(block.engine());
        let until = block.waits_of_host(Access::Write)?;
        let (promise, transfer) = Promise::new(&engine);
        let then = Box::new(move |landed: Result<()>| promise.keep(landed.map(|()| same)));
        engine.start(Way::Down, Box::new(move || Landing { until, then }));
        Ok(transfer)
    }

    fn fetch_async(&self, from: &DeviceBlock, pool: &MemoryPool) -> Result<Transfer> {
        from.engine().check()?;
        let (promise, transfer) = Promise::new(from.engine());
        let (source, pool) = (self.clone(), pool.clone());
        let job = move || {
            let fetched = source.to_pool(&pool);
            let until = match &fetched {
                Ok(tensor) if tensor.device() == source.device() => tensor.under_way(),
                _ => Waits::new(),
            };
            if fetched.as_ref().is_ok_and(|tensor| tensor.device() == source.device()) {
                promise.submitted(&until);
            }
            let then = Box::new(move |landed: Result<()>| {
                // On the host it has arrived; on another device that one is waited for.
                promise.keep(fetched.and_then(|tensor| landed.and_then(|()| tensor.synchronize()).map(|()| tensor)));
            });
            Landing { until, then }
        };
        from.engine().start(Way::Down, Box::new(job));
        Ok(transfer)
    }
}
