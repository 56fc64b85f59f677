//! A launch: block after block, and within a block the threads in turns until all have ended.

use super::code::Special;
use super::scope::MAX_SHARED;
use super::space::Spaces;
use super::thread::{State, Thread};
use super::{Kernel, Memory, thread, warp};

/// The steps of one turn of a thread: long enough to cost nothing, short enough that a thread which spins on shared
/// memory lets the others run.
const TURN: u64 = 10_000;
const MAX_THREADS: u64 = 1024;

/// Runs `kernel` for at most `steps` steps. `shape` is the grid and the block.
pub(super) fn run(
    kernel: &Kernel,
    shape: [[u32; 3]; 2],
    shared_bytes: u32,
    params: &[u8],
    memory: &mut dyn Memory,
    steps: u64,
) -> Result<(), String> {
    let [grid, block] = shape;
    let threads = block
        .iter()
        .try_fold(1u64, |product, &length| product.checked_mul(length.into()))
        .unwrap_or(u64::MAX);
    if grid.contains(&0) || block.contains(&0) || threads > MAX_THREADS {
        return Err(format!(
            "cannot launch a grid of {grid:?} blocks of {block:?} threads (at most {MAX_THREADS})"
        ));
    }
    let shared = u64::from(kernel.shared_bytes) + u64::from(shared_bytes);
    if shared > u64::from(MAX_SHARED) {
        return Err(format!(
            "needs {shared} bytes of shared memory, where there are {MAX_SHARED}"
        ));
    }
    let needed = kernel
        .params
        .last()
        .map_or(0, |param| param.offset as usize + param.bytes as usize);
    if params.len() < needed {
        return Err(format!("got {} bytes of parameters, needs {needed}", params.len()));
    }
    let (count, size) = (threads as usize, kernel.template.len());
    let mut launch = Launch {
        kernel,
        shape,
        shared_bytes,
        threads: vec![
            Thread {
                at: 0,
                state: State::Ready
            };
            count
        ],
        registers: vec![0; count * size],
        local: vec![0; count * kernel.local_bytes as usize],
        spaces: Spaces {
            shared: vec![0; shared as usize],
            params,
            data: &kernel.data,
            global: memory,
        },
        left: steps,
    };
    for z in 0..grid[2] {
        for y in 0..grid[1] {
            for x in 0..grid[0] {
                launch.block([x, y, z])?;
            }
        }
    }
    Ok(())
}

struct Launch<'a> {
    kernel: &'a Kernel,
    shape: [[u32; 3]; 2],
    shared_bytes: u32,
    threads: Vec<Thread>,
    /// The registers of each thread in turn.
    registers: Vec<u64>,
    local: Vec<u8>,
    spaces: Spaces<'a>,
    /// The steps that are left.
    left: u64,
}

impl Launch<'_> {
    fn block(&mut self, at: [u32; 3]) -> Result<(), String> {
        let size = self.kernel.template.len();
        self.threads.fill(Thread {
            at: 0,
            state: State::Ready,
        });
        self.spaces.shared.fill(0);
        self.local.fill(0);
        for (index, registers) in self.registers.chunks_exact_mut(size).enumerate() {
            registers.copy_from_slice(&self.kernel.template);
            for &(register, special) in &self.kernel.specials {
                registers[register as usize] = value(special, self.shape, at, index, self.shared_bytes);
            }
        }
        let code = &self.kernel.code;
        while self.threads.iter().any(|thread| thread.state != State::Done) {
            let mut went_on = false;
            for first in (0..self.threads.len()).step_by(warp::LANES) {
                let end = self.threads.len().min(first + warp::LANES);
                for index in first..end {
                    went_on |= self.turn(index).map_err(|what| self.placed(at, index, &what))?;
                }
                let registers = &mut self.registers[first * size..end * size];
                went_on |= warp::meet(code, &mut self.threads[first..end], registers, size);
            }
            went_on |= warp::pass_barriers(code, &mut self.threads, &mut self.registers, size);
            if !went_on {
                let waits = |thread: &Thread| thread.state != State::Done;
                let index = self.threads.iter().position(waits).unwrap_or(0);
                let what = "waits for ever: not all threads that it waits for come here";
                return Err(self.placed(at, index, what));
            }
        }
        Ok(())
    }

    /// Lets a thread run if it can; whether it could.
    fn turn(&mut self, index: usize) -> Result<bool, String> {
        if self.threads[index].state != State::Ready {
            return Ok(false);
        }
        if self.left == 0 {
            return Err("the kernel does not end: it took all the steps that a launch may take".into());
        }
        let (size, local) = (self.kernel.template.len(), self.kernel.local_bytes as usize);
        let registers = &mut self.registers[index * size..(index + 1) * size];
        let local = &mut self.local[index * local..(index + 1) * local];
        let (code, turn) = (&self.kernel.code, TURN.min(self.left));
        self.left -= thread::run(code, registers, local, &mut self.spaces, &mut self.threads[index], turn)?;
        Ok(true)
    }

    fn placed(&self, block: [u32; 3], index: usize, what: &str) -> String {
        let line = self.kernel.code.get(self.threads[index].at).map_or(0, |inst| inst.line);
        format!(
            "block {block:?}, thread {:?}, line {line}: {what}",
            place(index, self.shape[1])
        )
    }
}

/// The place of the thread `index` in its block.
fn place(index: usize, block: [u32; 3]) -> [u32; 3] {
    let index = index as u32;
    [
        index % block[0],
        index / block[0] % block[1],
        index / block[0] / block[1],
    ]
}

fn value(special: Special, [grid, block]: [[u32; 3]; 2], at: [u32; 3], index: usize, shared_bytes: u32) -> u64 {
    let lane = (index % warp::LANES) as u32;
    let below = (1u32 << lane) - 1;
    let threads = block.iter().product::<u32>();
    let value = match special {
        Special::Tid(axis) => place(index, block)[axis],
        Special::Ntid(axis) => block[axis],
        Special::Ctaid(axis) => at[axis],
        Special::Nctaid(axis) => grid[axis],
        Special::Lane => lane,
        Special::Warp => (index / warp::LANES) as u32,
        Special::Warps => threads.div_ceil(warp::LANES as u32),
        Special::MaskEq => 1 << lane,
        Special::MaskLt => below,
        Special::MaskLe => below | 1 << lane,
        Special::MaskGt => !(below | 1 << lane),
        Special::MaskGe => !below,
        Special::Dynamic => shared_bytes,
    };
    u64::from(value)
}
