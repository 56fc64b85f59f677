//! `PoolStats`: the figures of a pool, or of all, at one moment.

use neuro_core::PoolStats;
use pyo3::prelude::*;
use pyo3::types::PyDict;

macro_rules! stats_class {
    ($stats:ident; $($(#[doc = $doc:literal])* $name:ident: $type:ty = $value:expr,)*) => {
        /// Counts of a pool, or of all pools together, at one moment.
        ///
        /// requested_bytes <= live_bytes <= committed_bytes <= reserved_bytes: asked for, in blocks (whole granules of 64),
        /// perhaps resident, and addresses, which cost nothing. A leak shows as live bytes, a cache as cached_bytes.
        #[pyclass(frozen, get_all, eq, name = "PoolStats", module = "neuro_memory")]
        #[derive(PartialEq)]
        pub(crate) struct PyPoolStats {
            $($(#[doc = $doc])* $name: $type),*
        }

        impl From<PoolStats> for PyPoolStats {
            fn from($stats: PoolStats) -> Self {
                Self { $($name: $value),* }
            }
        }

        #[pymethods]
        impl PyPoolStats {
            /// All counts by name.
            fn asdict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
                let dict = PyDict::new(py);
                $(dict.set_item(stringify!($name), self.$name)?;)*
                Ok(dict)
            }

            fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
                let fields: Vec<String> = self
                    .asdict(py)?
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                Ok(format!("PoolStats({})", fields.join(", ")))
            }
        }
    };
}

stats_class! {
    stats;
    /// Bytes that may be live at once; None where there is no limit.
    limit_bytes: Option<usize> = stats.limit_bytes,
    /// Bytes that data is aligned to by default.
    alignment: usize = stats.alignment,
    /// Bytes in live blocks.
    live_bytes: usize = stats.live_bytes,
    /// Most bytes that were live at once since the start or the last reset.
    peak_bytes: usize = stats.peak_bytes,
    /// Bytes of address space held.
    reserved_bytes: usize = stats.reserved_bytes,
    /// Bytes of it that the system backs with memory.
    committed_bytes: usize = stats.committed_bytes,
    /// Bytes of the pool's own records.
    side_bytes: usize = stats.side_bytes,
    /// Live blocks.
    live_blocks: usize = stats.live_blocks,
    /// Most blocks that were live at once.
    peak_blocks: usize = stats.peak_blocks,
    /// Blocks ever handed out.
    total_allocations: u64 = stats.total_allocations,
    /// Ranges of address space the pool is made of.
    regions: usize = stats.regions,
    /// Free ranges between the live blocks.
    free_runs: usize = stats.free_runs,
    /// Bytes of the largest free range.
    largest_free_bytes: usize = stats.largest_free_bytes,
    /// Bytes asked for, of live blocks.
    requested_bytes: usize = stats.requested_bytes,
    /// Most bytes asked for at once.
    peak_requested_bytes: usize = stats.peak_requested_bytes,
    /// Bytes ever asked for.
    total_requested_bytes: u64 = stats.total_requested_bytes,
    /// Bytes of all blocks ever handed out.
    total_bytes: u64 = stats.total_bytes,
    /// Most address space held at once, in bytes.
    peak_reserved_bytes: usize = stats.peak_reserved_bytes,
    /// Address space ever taken, in bytes.
    total_reserved_bytes: u64 = stats.total_reserved_bytes,
    /// Most bytes committed at once.
    peak_committed_bytes: usize = stats.peak_committed_bytes,
    /// Bytes ever committed: much more than the peak means that memory goes to and fro.
    total_committed_bytes: u64 = stats.total_committed_bytes,
    /// Committed bytes in no block: what trim() can give back, rounded to steps of 2 MiB.
    cached_bytes: usize = stats.cached_bytes(),
    /// Bytes in free ranges below the highest block: holes.
    hole_bytes: usize = stats.hole_bytes,
    /// Bytes of the largest hole.
    largest_hole_bytes: usize = stats.largest_hole_bytes,
    /// How much of the holes a single block cannot use: 0 where they are one piece or none, towards 1 where they are many.
    fragmentation: f64 = stats.fragmentation(),
    /// Threads that have a cache of the pool.
    caches: usize = stats.caches,
    /// Blocks that wait in such caches.
    cache_blocks: usize = stats.cache_blocks,
    /// Bytes of those blocks.
    cache_bytes: usize = stats.cache_bytes,
    /// Bytes kept for small blocks outside the caches.
    slab_free_bytes: usize = stats.slab_free_bytes,
    /// Bytes that are locked in memory because devices reach them there, of a pool with gpu_support.
    pinned_bytes: usize = stats.pinned_bytes,
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyPoolStats>()
}
