//! What holds of every rule on a recorded trace.

use std::collections::BTreeMap;

use super::{BestFit, Heap, Pool, PowerOfTwo, Rule, TorchLike};
use crate::measure::reserved;
use crate::trace::Trace;

fn digits() -> Trace {
    Trace::parse(include_str!("../../../traces/digits.csv")).unwrap()
}

/// Replays a trace; each block has to have its length, and no live one may reach into the next.
fn blocks_are_disjoint<R: Rule>(trace: &Trace) {
    let mut rule = R::new();
    let mut handles = vec![R::Handle::default(); trace.buffers];
    let mut starts = vec![0; trace.buffers];
    let mut live = BTreeMap::new();
    for op in &trace.ops {
        let index = op.buffer as usize;
        if op.bytes == 0 {
            live.remove(&starts[index]);
            rule.free(handles[index]);
            continue;
        }
        handles[index] = rule.allocate(op.bytes).unwrap();
        let block = rule.addresses(handles[index]).unwrap();
        assert!(
            block.end - block.start >= op.bytes,
            "{}: {block:?} for {} B",
            R::NAME,
            op.bytes
        );
        let before = live.range(..block.end).next_back();
        assert!(
            before.is_none_or(|(_, &end)| end <= block.start),
            "{}: {before:?} and {block:?}",
            R::NAME
        );
        starts[index] = block.start;
        live.insert(block.start, block.end);
    }
    assert!(live.is_empty());
}

fn check<R: Rule>() {
    let trace = digits();
    blocks_are_disjoint::<R>(&trace);
    assert!(reserved::<R>(&trace).unwrap() >= trace.peak_bytes, "{}", R::NAME);
}

#[test]
fn every_rule_places_live_blocks_apart_and_reserves_what_is_live() {
    check::<Pool>();
    check::<Heap>();
    check::<BestFit>();
    check::<TorchLike>();
    check::<PowerOfTwo>();
}
