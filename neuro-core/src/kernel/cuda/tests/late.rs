//! Random programs on the driver that this machine has, with kernels that begin late: work that is not ordered behind one reads what was there
//! before, or is overwritten. `gpu-check` runs this on a card, for as long as `NEURO_SOAK_SECONDS` says.

use std::time::{Duration, Instant};

use super::machine::Machine;
use super::program::{Plan, run_here};
use super::soak::seconds;
use crate::backend::planted::Omission;

/// Where nothing is said.
const PROGRAMS: u64 = 6;
const STEPS: usize = 120;

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        steps: STEPS,
        faults: false,
        omission: None,
        debug: seed.is_multiple_of(3),
    }
}

#[test]
fn programs_with_late_kernels_compute_what_they_should() {
    let start = Instant::now();
    let time = seconds().map(Duration::from_secs);
    let mut programs = 0;
    for seed in 1.. {
        if time.map_or(programs >= PROGRAMS, |time| start.elapsed() >= time) {
            break;
        }
        let Some(found) = run_here(plan(seed)) else { return };
        assert!(found.is_empty(), "seed {seed}: {found:#?}");
        programs += 1;
    }
    println!(
        "late kernels: {programs} programs of {} operations on 2 threads",
        2 * STEPS
    );
}

/// That a mistake shows: on a card, where the values are all that can be looked at. The simulated driver would find it by itself, and end the
/// process for it.
#[test]
fn a_wait_that_is_left_out_shows() {
    match Machine::here() {
        Some((machine, false)) => drop(machine.end(false)),
        _ => return,
    }
    let is_found = |seed| {
        let plan = Plan {
            omission: Some(Omission::WaitForWrite),
            ..plan(seed)
        };
        run_here(plan).is_some_and(|found| !found.is_empty())
    };
    assert!(
        (1..200).any(is_found),
        "no program computes anything wrong without its waits"
    );
}
