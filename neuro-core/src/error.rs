//! The one error of the library. Every message says what was asked, what was there and what to do.
//!
//! The C status codes and the Python exception types are both chosen from the variant, in one `match` each.

use std::path::PathBuf;
use std::sync::Arc;

use crate::device::Device;
use crate::dtype::DType;

/// What every fallible call returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A pool has no room: its limit is reached, its free space is in pieces, or the system gave no more.
    #[error(
        "{device}: out of memory: asked for {asked} B aligned to {alignment} B; {figures}{}; \
         release tensors, raise the limit, or use another pool",
        cause_text(.cause)
    )]
    OutOfMemory {
        /// Where the pool's memory lies.
        device: Device,
        /// Bytes asked for.
        asked: usize,
        /// Alignment asked for, in bytes.
        alignment: usize,
        /// The pool's figures at that moment.
        figures: Box<PoolFigures>,
        /// What the system said, if it was asked.
        cause: Option<Arc<std::io::Error>>,
    },
    /// A pool in debug mode found memory written that nobody may write.
    #[error("{op}: {what}; somebody writes where he must not")]
    Corrupted {
        /// The operation that found it.
        op: &'static str,
        /// What was found, and where.
        what: String,
    },
    /// An argument that can never be right.
    #[error("{op}: {what}")]
    InvalidArgument {
        /// The operation that refused.
        op: &'static str,
        /// What was given and what is allowed.
        what: String,
    },
    /// A size that does not fit an address space.
    #[error(
        "{op}: shape {shape:?} of {dtype} overflows: a tensor can have at most {} bytes",
        isize::MAX
    )]
    SizeOverflow {
        /// The operation that refused.
        op: &'static str,
        /// The shape asked for.
        shape: Vec<usize>,
        /// The element type asked for.
        dtype: DType,
    },
    /// Shapes that do not go together.
    #[error("{op}: expected {expected}, got shape {got:?}")]
    ShapeMismatch {
        /// The operation that refused.
        op: &'static str,
        /// What would have been right.
        expected: String,
        /// The shape given.
        got: Vec<usize>,
    },
    /// An index, a range or an axis outside the tensor.
    #[error("{op}: {what} {index} is out of range for {len}")]
    OutOfRange {
        /// The operation that refused.
        op: &'static str,
        /// What was indexed: an axis, an element, an end of a range.
        what: &'static str,
        /// The index given.
        index: isize,
        /// The first length that is too long.
        len: usize,
    },
    /// Another element type than the tensor has.
    #[error("{op}: asked for {asked}, but the tensor is {got}")]
    DTypeMismatch {
        /// The operation that refused.
        op: &'static str,
        /// The element type asked for.
        asked: DType,
        /// The element type there.
        got: DType,
    },
    /// An element type this library does not have.
    #[error("unknown dtype {name}; known are {}", DType::names())]
    UnknownDType {
        /// The name or code given.
        name: String,
    },
    /// A device name that means nothing.
    #[error("unknown device {name:?}; write cpu, cuda:N or vulkan:N")]
    UnknownDevice {
        /// The name given.
        name: String,
    },
    /// A device, driver or function that is not there.
    #[error("{what} is not available: {reason}")]
    Unavailable {
        /// What was asked for.
        what: String,
        /// What was looked for, and how to get it.
        reason: String,
    },
    /// A device that is gone for good: nothing on it can be used or trusted any more.
    #[error("{device} is lost: {reason}; what was on it is gone, and only a new process can use it again")]
    DeviceLost {
        /// Which one.
        device: Device,
        /// What the driver said.
        reason: String,
    },
    /// A driver that refused a call.
    #[error("{device}: {call} failed with {code}: {meaning}")]
    Driver {
        /// The device.
        device: Device,
        /// The call.
        call: &'static str,
        /// The driver's code.
        code: i64,
        /// What it stands for.
        meaning: String,
    },
    /// An argument of a kernel that does not go with its parameter.
    #[error("kernel {kernel}: argument {position} ({parameter}): {why}")]
    KernelArgument {
        /// Name of the kernel.
        kernel: String,
        /// Which argument, from 1 on.
        position: usize,
        /// The parameter, as C declares it.
        parameter: String,
        /// What is wrong. What kind of error this is, is what kind that is.
        why: Box<Error>,
    },
    /// A view that is not contiguous where contiguous memory is needed.
    #[error(
        "{op}: the tensor is not contiguous (shape {shape:?}, strides {strides:?} elements); make a contiguous copy first"
    )]
    NotContiguous {
        /// The operation that refused.
        op: &'static str,
        /// Shape of the view.
        shape: Vec<usize>,
        /// Its strides, in elements.
        strides: Vec<isize>,
    },
    /// A write to memory that may only be read.
    #[error("{op}: the tensor is read-only; copy it first")]
    ReadOnly {
        /// The operation that refused.
        op: &'static str,
    },
    /// A safe borrow of memory that somebody else can change.
    #[error("{op}: the storage is shared ({why}); copy the tensor first")]
    Shared {
        /// The operation that refused.
        op: &'static str,
        /// Who else can reach it.
        why: &'static str,
    },
    /// An address that is not the start of a live block of a pool.
    #[error("free of {address:#x}: {reason}; nothing was changed")]
    InvalidFree {
        /// The address given.
        address: usize,
        /// What stands there.
        reason: &'static str,
    },
    /// Memory that cannot be exchanged with another library, and why.
    #[error("exchange refused: {reason}")]
    Exchange {
        /// What was in the way and what would be accepted.
        reason: String,
    },
    /// A file that could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// A file whose contents are not what they claim.
    #[error("{}: not a valid safetensors file: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A pool's figures when it had no room. "Leak or cache?": live bytes are in blocks, cached ones are not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolFigures {
    /// Bytes asked for, of live blocks.
    pub requested: usize,
    /// Bytes in live blocks.
    pub live: usize,
    /// Live blocks.
    pub live_blocks: usize,
    /// Most bytes in live blocks at once.
    pub peak: usize,
    /// Bytes that may be resident.
    pub committed: usize,
    /// Bytes of address space held.
    pub reserved: usize,
    /// Committed bytes in no block.
    pub cached: usize,
    /// Bytes that threads' caches and slabs keep for small blocks.
    pub in_caches: usize,
    /// Bytes of the largest free run.
    pub largest: usize,
    /// Free runs.
    pub free_runs: usize,
    /// How much of the holes a single block cannot use, in percent.
    pub fragmentation_percent: u32,
    /// The pool's limit in bytes, if it has one.
    pub limit: Option<usize>,
}

impl std::fmt::Display for PoolFigures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} B live in {} blocks ({} B asked for, peak {} B), {} B committed, {} B reserved; {} B cached ({} B for small \
             blocks); largest free run {} B of {} runs, fragmentation {} %; limit ",
            self.live,
            self.live_blocks,
            self.requested,
            self.peak,
            self.committed,
            self.reserved,
            self.cached,
            self.in_caches,
            self.largest,
            self.free_runs,
            self.fragmentation_percent,
        )?;
        match self.limit {
            Some(limit) => write!(f, "{limit} B"),
            None => f.write_str("none"),
        }
    }
}

fn cause_text(cause: &Option<Arc<std::io::Error>>) -> String {
    cause
        .as_ref()
        .map_or_else(String::new, |error| format!("; the system said: {error}"))
}
