//! PTX: parses the text assembly of CUDA kernels and runs it on the processor, so that kernels which NVRTC compiled
//! really run in tests on a machine without a GPU.
//!
//! [`parse`] decodes a module once, into instructions that name registers by index ([`Kernel`]). [`Kernel::run`]
//! executes a grid, block after block, with the threads of a block taking turns from one meeting point (barrier,
//! shuffle, vote) to the next. Files, lowest first: `lex` (tokens), `types`, `number`, `round`, `integer`, `float`,
//! `convert` (values), `code` (the decoded form), `variable`, `scope`, `operand`, `decode` with its parts
//! `decode_choice`, `decode_memory` and `decode_warp`, `body`, `module` (text to code), `space`, `thread`, `warp`,
//! `launch` (code to effects).
//!
//! Invariants:
//! - X1: each register index in a decoded kernel is below the length of its template of registers (`scope` hands out
//!   both).
//! - X2: the last instruction of a kernel is an exit and each branch target is an index of an instruction, so that the
//!   program counter stays inside the code (`body` sees to both).
//! - X3: where the text keeps to the types of PTX, a register holds its value extended with zeros to 64 bits, and a
//!   predicate holds 0 or 1.
//!
//! Absent on purpose: device functions (a call is an error when it is reached), textures, tensor cores, clusters,
//! asynchronous copies, packed halves, writable module variables, flushing of subnormal numbers (`.ftz` is accepted and
//! ignored), the approximations of `.approx` (plain mathematics instead), races: a kernel whose result depends on the
//! order in which threads run gives one of the results that a GPU may give.

mod body;
mod code;
mod convert;
mod decode;
mod decode_choice;
mod decode_memory;
mod decode_warp;
mod float;
mod integer;
mod launch;
mod lex;
mod module;
mod number;
mod operand;
mod round;
mod scope;
mod space;
mod thread;
mod types;
mod variable;
mod warp;

#[cfg(test)]
mod tests;

use std::sync::Arc;

/// The steps after which a launch counts as one that does not end.
const STEPS: u64 = 200_000_000;

/// A parsed module.
#[derive(Debug)]
pub struct Module {
    kernels: Vec<Kernel>,
}

/// A kernel of a module, ready to run.
#[derive(Debug)]
pub struct Kernel {
    /// The name under which the kernel is launched.
    pub name: String,
    /// The parameters, in order.
    pub params: Vec<Param>,
    code: Vec<code::Inst>,
    /// The registers of a thread as it starts: zeros, and the constants of the code.
    template: Vec<u64>,
    specials: Vec<(u32, code::Special)>,
    shared_bytes: u32,
    local_bytes: u32,
    data: Arc<[u8]>,
}

/// Where a parameter stands in the block of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// Bytes before it.
    pub offset: u32,
    /// Its size in bytes.
    pub bytes: u32,
    /// Whether it is a scalar of 64 bits that is no floating-point number, as pointers are.
    pub is_pointer_sized: bool,
}

/// The global memory that a kernel works on.
pub trait Memory {
    /// The `bytes` (1, 2, 4 or 8) bytes at `address`, little-endian.
    ///
    /// # Errors
    /// A sentence, when the range is not the kernel's to read.
    fn load(&mut self, address: u64, bytes: u32) -> Result<u64, String>;

    /// Puts the low `bytes` (1, 2, 4 or 8) bytes of `value` to `address`, little-endian.
    ///
    /// # Errors
    /// A sentence, when the range is not the kernel's to write.
    fn store(&mut self, address: u64, bytes: u32, value: u64) -> Result<(), String>;
}

/// Parses the text of a module. An instruction that is not known becomes an error when a thread reaches it.
///
/// # Errors
/// The line, and what was not understood there: text that ends early, names that nothing declares, sizes out of bounds.
pub fn parse(text: &str) -> Result<Module, String> {
    module::parse(text).map(|kernels| Module { kernels })
}

impl Module {
    /// The kernels, in the order of the text.
    pub fn kernels(&self) -> impl Iterator<Item = &Kernel> {
        self.kernels.iter()
    }

    /// The kernel of this name.
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.iter().find(|kernel| kernel.name == name)
    }
}

impl Kernel {
    /// Runs the kernel over `grid` blocks of `block` threads, with `shared_bytes` of dynamic shared memory. `params`
    /// are the bytes of the parameters, each at its offset.
    ///
    /// # Errors
    /// A sentence that names the kernel, the block, the thread and the line: a launch out of bounds, too few bytes of
    /// parameters, an instruction that is not supported, an address outside its memory or not aligned, threads that
    /// wait for each other for ever, more than 200 million steps. Stores that were made before it stay.
    pub fn run(
        &self,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u32,
        params: &[u8],
        memory: &mut dyn Memory,
    ) -> Result<(), String> {
        launch::run(self, [grid, block], shared_bytes, params, memory, STEPS)
            .map_err(|what| format!("kernel {}: {what}", self.name))
    }
}
