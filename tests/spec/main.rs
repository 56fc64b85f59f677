//! The specification of the NEURO memory model, block by block, as programs in Rust.
//!
//! The specification holds 16 code blocks. Each is a row of [`BLOCKS`], in its order: either a program (one file a block,
//! named by its number and section, itself a test) or the reason why it is not built yet. [`specification`] prints the
//! count. A row is `Built` only if the program does what the whole block does; half a block is not built.
//!
//! Spelling follows Rust where the languages differ. Where a block shows how the original works inside, the program
//! checks what such an inside promises to its users.

mod b01_basic_arc_model;
mod b02_arc_implementation;
mod b03_cycle_detection;
mod b05_pool_implementation;
mod b14_when_to_use_arc;

/// A code block of the specification.
struct Block {
    /// Its place, from 1.
    number: usize,
    /// Title of the section it stands in. Each section has at most one block.
    section: &'static str,
    state: State,
}

/// How far a block is.
enum State {
    /// The program, which is a test too.
    Built(fn()),
    /// What it needs that is not there.
    NotBuilt(&'static str),
}

use State::{Built, NotBuilt};

/// How many code blocks the specification has.
const TOTAL: usize = 16;

const STATIC_SHAPES: &str = "needs Tensor<T, S>, whose shape is part of its type";
const DEVICES: &str = "needs Tensor<T, S> on devices";

const BLOCKS: [Block; TOTAL] = [
    block(1, "Basic ARC Model", Built(b01_basic_arc_model::basic_arc_model)),
    block(
        2,
        "ARC Implementation",
        Built(b02_arc_implementation::arc_implementation),
    ),
    block(3, "Cycle Detection", Built(b03_cycle_detection::cycle_detection)),
    block(4, "High-Performance Allocation", NotBuilt(STATIC_SHAPES)),
    block(
        5,
        "Pool Implementation",
        Built(b05_pool_implementation::pool_implementation),
    ),
    block(
        6,
        "Pool-Allocated Tensors",
        NotBuilt("needs StackTensor and Tensor<T, S>"),
    ),
    block(7, "Unified Memory Model", NotBuilt(DEVICES)),
    block(8, "GPU Memory Pools", NotBuilt(DEVICES)),
    block(9, "SIMD Alignment", NotBuilt(STATIC_SHAPES)),
    block(10, "Memory Layout", NotBuilt("needs tensor! and the change of layouts")),
    block(11, "Runtime Checks", NotBuilt("needs Tensor<T, S> and its indexing")),
    block(12, "Leak Detection", NotBuilt("needs LeakDetector")),
    block(13, "Memory Usage Tracking", NotBuilt("needs MemoryTracker")),
    block(14, "When to Use ARC", Built(b14_when_to_use_arc::when_to_use_arc)),
    block(15, "When to Use Memory Pools", NotBuilt(STATIC_SHAPES)),
    block(
        16,
        "GPU Memory Best Practices",
        NotBuilt("needs kernels written in Rust"),
    ),
];

const fn block(number: usize, section: &'static str, state: State) -> Block {
    Block { number, section, state }
}

/// No block is left out or listed twice; prints how many are built and names the rest.
#[test]
fn specification() {
    for (row, block) in BLOCKS.iter().enumerate() {
        assert_eq!(block.number, row + 1, "'{}' is out of its place", block.section);
        let namesakes = BLOCKS.iter().filter(|other| other.section == block.section).count();
        assert_eq!(namesakes, 1, "'{}' is listed {namesakes} times", block.section);
    }
    let built = BLOCKS.iter().filter(|block| matches!(block.state, Built(_))).count();
    println!("\nspecification: {built} of {TOTAL}");
    for block in &BLOCKS {
        match block.state {
            Built(program) => program(),
            NotBuilt(why) => println!("  not built: {}. {}: {why}", block.number, block.section),
        }
    }
}
