//! What a CUDA device shows of itself, for code that speaks CUDA: handles, addresses, streams of others, modules and launches.
//!
//! Handles are numbers here, so that this needs no bindings: what C calls `CUstream` or `CUfunction`, as an address.

use std::ffi::{CStr, c_void};
use std::sync::Arc;

use super::{Queue, Refusal, SlabId, Span, Ticket};

/// What CUDA calls a device that is open. It stays valid until the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Handles {
    /// `CUdevice`.
    pub device: i32,
    /// `CUcontext`: the device's primary context, in which the CUDA runtime and what is built on it work, too.
    pub context: usize,
    /// `CUstream` that kernels run on. It does not wait for the default stream, nor that for it.
    pub compute: usize,
    /// `CUstream` for copies from the host.
    pub upload: usize,
    /// `CUstream` for copies to the host.
    pub download: usize,
    /// Compute capability, as 9 and 0.
    pub capability: (u32, u32),
    /// Version of the driver's interface, as 13000 for 13.0.
    pub driver_version: u32,
}

/// A kernel, and over what it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launch<'a> {
    /// `CUfunction`.
    pub(crate) function: usize,
    /// Blocks.
    pub(crate) grid: [u32; 3],
    /// Threads of a block.
    pub(crate) block: [u32; 3],
    /// Bytes of shared memory that a block asks for beside what the kernel declares.
    pub(crate) shared_bytes: u32,
    /// Where each parameter lies; as many as the kernel has, each as long as its type.
    pub(crate) params: &'a [*mut c_void],
}

/// An event that was recorded, and is not used for anything else as long as this lives.
pub(crate) struct HeldEvent {
    /// `CUevent`.
    pub(crate) event: usize,
    pub(crate) _keeper: Arc<dyn Send + Sync>,
}

/// The part of a device that only CUDA has.
pub(crate) trait RawCuda {
    fn handles(&self) -> Handles;

    /// `CUdeviceptr` of the first byte of a span.
    fn address(&self, span: Span) -> u64;

    /// The ordinal of the device whose memory lies there, or which locked the host's that does; `None` where CUDA knows nothing of it, or the
    /// driver cannot be asked.
    ///
    /// # Errors
    /// [`Refusal::Lost`].
    fn device_at(&self, address: u64) -> Result<Option<u32>, Refusal>;

    /// Takes up a stream of somebody else as a queue. The same stream is the same queue; each call is matched by one of
    /// [`close_stream`](Self::close_stream).
    ///
    /// # Errors
    /// [`Refusal::Call`] where all queues for that are taken, or the stream is of another device.
    ///
    /// # Safety
    /// It is a stream of this device's primary context, and stays until it was closed here as often as it was opened.
    unsafe fn open_stream(&self, stream: usize) -> Result<Queue, Refusal>;

    /// Lets a stream go. Tickets of it stay good.
    fn close_stream(&self, queue: Queue);

    /// Hands `work` a stream: that of an own queue, or of one that was opened. It waits for `waits` before anything that `work` submits.
    /// Where `work` says that it has submitted, that is the next piece of work of that queue, and this is its ticket. If it panics, it
    /// has submitted nothing. The device's context is current meanwhile.
    ///
    /// # Errors
    /// What the driver said; `work` was not called then.
    ///
    /// # Safety
    /// Where `work` says true, all that it has submitted is on that stream, and what it uses is as
    /// [`Backend::submit`](super::Backend::submit) asks. Else it has submitted nothing.
    unsafe fn with_stream(
        &self,
        queue: Queue,
        waits: &[Ticket],
        work: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Ticket>, Refusal>;

    /// All that was submitted to a queue up to now, by whomever, as a piece of work. Costs no call of the driver.
    ///
    /// # Errors
    /// [`Refusal::Lost`].
    fn so_far(&self, queue: Queue) -> Result<Ticket, Refusal>;

    /// Has a queue wait, with all that is submitted to it later, by whomever.
    ///
    /// # Errors
    /// What the driver said.
    fn hold(&self, queue: Queue, waits: &[Ticket]) -> Result<(), Refusal>;

    /// Loads PTX (text, closed by a zero byte) or a binary: `CUmodule`.
    ///
    /// # Errors
    /// What the driver said, with its log.
    fn load_module(&self, image: &[u8]) -> Result<usize, Refusal>;

    /// # Safety
    /// It is from [`load_module`](Self::load_module), and no work that is not done runs a kernel of it.
    unsafe fn unload_module(&self, module: usize);

    /// `CUfunction` of that name.
    ///
    /// # Errors
    /// What the driver said.
    fn function(&self, module: usize, name: &CStr) -> Result<usize, Refusal>;

    /// Submits a kernel to the stream of a turn ([`with_stream`](Self::with_stream)).
    ///
    /// # Errors
    /// What the driver said; nothing was submitted then.
    ///
    /// # Safety
    /// The parameters are those of the kernel, and what it then uses is as [`Backend::submit`](super::Backend::submit) asks.
    unsafe fn launch(&self, stream: usize, launch: &Launch<'_>) -> Result<(), Refusal>;

    /// Whether another device may copy to and from a slab: not where its memory is mapped for this device alone, or the driver does not copy
    /// between devices.
    fn is_for_peers(&self, slab: SlabId) -> bool;

    /// Events at or behind those tickets that may not be done.
    ///
    /// # Errors
    /// What the driver said.
    fn events_of(&self, waits: &[Ticket]) -> Result<Vec<HeldEvent>, Refusal>;

    /// In a turn ([`with_stream`](Self::with_stream)): has the stream wait for an event of any device.
    ///
    /// # Errors
    /// What the driver said.
    fn wait_for_event(&self, stream: usize, event: &HeldEvent) -> Result<(), Refusal>;

    /// Has a stream that is no queue here wait, with all that is submitted to it later; 2 is the default stream of this thread.
    ///
    /// # Errors
    /// What the driver said; [`Refusal::Call`] where the stream is of another device, or being captured.
    ///
    /// # Safety
    /// It is a stream of this device's primary context.
    unsafe fn order_stream(&self, stream: usize, waits: &[Ticket]) -> Result<(), Refusal>;

    /// An event behind all that was submitted up to now to a stream that is no queue here.
    ///
    /// # Errors
    /// As [`order_stream`](Self::order_stream).
    ///
    /// # Safety
    /// As [`order_stream`](Self::order_stream).
    unsafe fn mark_stream(&self, stream: usize) -> Result<HeldEvent, Refusal>;

    /// Asks whether a stream is being captured into a graph.
    ///
    /// # Errors
    /// [`Refusal::Call`] if it is; what the driver said.
    ///
    /// # Safety
    /// It is a stream of this device's primary context.
    unsafe fn check_capture(&self, stream: usize) -> Result<(), Refusal>;

    /// Waits on the host until a stream that is no queue here is done.
    ///
    /// # Errors
    /// As [`order_stream`](Self::order_stream).
    ///
    /// # Safety
    /// As [`order_stream`](Self::order_stream).
    unsafe fn finish_stream(&self, stream: usize) -> Result<(), Refusal>;

    /// In a turn: copies `bytes` bytes from the start of a span to an address of another device, which is not the host's.
    ///
    /// # Errors
    /// What the driver said; nothing was submitted then.
    ///
    /// # Safety
    /// Both are live memory, and used as [`Backend::submit`](super::Backend::submit) asks.
    unsafe fn copy_to_peer(&self, stream: usize, from: Span, to: (Handles, u64), bytes: usize) -> Result<(), Refusal>;
}
