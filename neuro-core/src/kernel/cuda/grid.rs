//! `Grid`: over what a kernel runs.

use crate::error::{Error, Result};

/// Most threads of a block, of any device so far.
const MOST_THREADS: u32 = 1024;
const MOST_BLOCKS: [u32; 3] = [i32::MAX.unsigned_abs(), 65_535, 65_535];
const MOST_THREADS_OF_AXIS: [u32; 3] = [1024, 1024, 64];

/// How many blocks of how many threads run a kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Grid {
    /// Blocks along x, y and z.
    pub blocks: [u32; 3],
    /// Threads of a block along x, y and z.
    pub threads: [u32; 3],
    /// Bytes of shared memory of a block, beside what the kernel declares. Devices have 48 KiB at
    /// least, the kernel's own included, and some have more.
    pub shared_bytes: u32,
}

impl Grid {
    /// Blocks of `threads` threads, of which there are at least `elements`: the kernel leaves out those that are too many. For no
    /// elements it is one block, since there is no launch of none.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for no threads, and for more than 1024; and where that makes more than 2³¹ − 1 blocks.
    ///
    /// # Examples
    /// ```
    /// # use neuro_core::cuda::Grid;
    /// let grid = Grid::for_elements(1000, 256)?;
    /// assert_eq!((grid.blocks, grid.threads), ([4, 1, 1], [256, 1, 1]));
    /// # Ok::<(), neuro_core::Error>(())
    /// ```
    pub fn for_elements(elements: usize, threads: u32) -> Result<Self> {
        const OP: &str = "Grid::for_elements";
        let refused = |what: String| Error::InvalidArgument { op: OP, what };
        if threads == 0 || threads > MOST_THREADS {
            return Err(refused(format!(
                "a block has 1 to {MOST_THREADS} threads, and {threads} are asked for"
            )));
        }
        let blocks = elements.div_ceil(threads as usize).max(1);
        let blocks = u32::try_from(blocks).ok().filter(|&blocks| blocks <= MOST_BLOCKS[0]).ok_or_else(|| {
            refused(format!(
                "{elements} elements are {blocks} blocks of {threads} threads, and there are at most {}; have each thread do several",
                MOST_BLOCKS[0]
            ))
        })?;
        Ok(Self {
            blocks: [blocks, 1, 1],
            threads: [threads, 1, 1],
            shared_bytes: 0,
        })
    }

    /// # Errors
    /// [`Error::InvalidArgument`] with what no device can do.
    pub(super) fn check(&self, kernel: &str) -> Result<()> {
        let refused = |what: String| {
            Err(Error::InvalidArgument {
                op: "launch",
                what: format!("kernel {kernel}: {what}"),
            })
        };
        for (axis, name) in ["x", "y", "z"].into_iter().enumerate() {
            for (what, asked, most) in [
                ("blocks", self.blocks[axis], MOST_BLOCKS[axis]),
                ("threads of a block", self.threads[axis], MOST_THREADS_OF_AXIS[axis]),
            ] {
                if asked == 0 || asked > most {
                    return refused(format!(
                        "there are 1 to {most} {what} along {name}, and {asked} are asked for"
                    ));
                }
            }
        }
        let threads: u64 = self.threads.iter().map(|&threads| u64::from(threads)).product();
        if threads > u64::from(MOST_THREADS) {
            return refused(format!(
                "a block has at most {MOST_THREADS} threads, and {threads} are asked for ({:?})",
                self.threads
            ));
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_element_has_a_thread() {
        for (elements, threads, blocks) in [(0, 32, 1), (1, 1024, 1), (1024, 1024, 1), (1025, 1024, 2), (7, 1, 7)] {
            let grid = Grid::for_elements(elements, threads).unwrap();
            assert_eq!((grid.blocks, grid.threads), ([blocks, 1, 1], [threads, 1, 1]));
            grid.check("f").unwrap();
        }
        assert!(Grid::for_elements(i32::MAX as usize, 1).is_ok());
        for (elements, threads, words) in [
            (1, 0, "and 0 are asked for"),
            (1, 1025, "and 1025 are asked for"),
            (1 << 31, 1, "2147483648 elements"),
            (usize::MAX, 1024, "have each thread do several"),
        ] {
            let error = Grid::for_elements(elements, threads).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_no_device_can_do_is_refused_with_what_was_asked() {
        let fits = Grid {
            blocks: [i32::MAX.unsigned_abs(), 65_535, 65_535],
            threads: [4, 4, 64],
            shared_bytes: 0,
        };
        fits.check("f").unwrap();
        for (blocks, threads, words) in [
            ([0, 1, 1], [1, 1, 1], "2147483647 blocks along x, and 0 are asked for"),
            ([1 << 31, 1, 1], [1, 1, 1], "and 2147483648 are asked for"),
            (
                [1, 65_536, 1],
                [1, 1, 1],
                "65535 blocks along y, and 65536 are asked for",
            ),
            ([1, 1, 1], [1, 0, 1], "threads of a block along y, and 0 are asked for"),
            ([1, 1, 1], [1, 1, 65], "1 to 64 threads of a block along z, and 65"),
            (
                [1, 1, 1],
                [32, 33, 1],
                "at most 1024 threads, and 1056 are asked for ([32, 33, 1])",
            ),
        ] {
            let grid = Grid {
                blocks,
                threads,
                ..fits
            };
            let error = grid.check("mine").unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("kernel mine"), "{error}");
        }
    }
}
