//! Random programs without a finding, and planted mistakes that are found. `make soak-cuda-sim` runs many more of the first.

use std::time::{Duration, Instant};

use super::program::{Plan, run, uploads};
use crate::backend::planted::Omission;

/// For how many seconds; and on how many threads of the test, each of which runs programs of two threads.
const SECONDS: &str = "NEURO_SOAK_SECONDS";
const STEPS: usize = 120;

/// For how many seconds, if it is said.
pub(super) fn seconds() -> Option<u64> {
    std::env::var(SECONDS).ok()?.parse().ok()
}

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        steps: STEPS,
        faults: seed.is_multiple_of(3),
        omission: None,
        debug: seed.is_multiple_of(5),
    }
}

/// Law: whatever is made, copied, used by whom, and dropped when: no use is unordered, no value is wrong, nothing is left.
#[test]
fn random_programs_have_no_finding() {
    for seed in 1..40 {
        let found = run(plan(seed));
        assert!(found.is_empty(), "seed {seed}: {found:#?}");
    }
}

/// The same for as long as is asked for, beginning with a seed that is asked for.
#[test]
fn soak() {
    let Some(seconds) = seconds() else { return };
    let first: u64 = std::env::var("NEURO_SOAK_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let (start, time) = (Instant::now(), Duration::from_secs(seconds));
    let programs: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                scope.spawn(move || {
                    let mut count = 0;
                    while start.elapsed() < time {
                        let seed = first + 2 * count + worker;
                        let found = run(plan(seed));
                        assert!(found.is_empty(), "NEURO_SOAK_SEED={seed}: {found:#?}");
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    println!(
        "soak: {programs} programs of {} operations on 2 threads, {:.0} s, without a finding",
        2 * STEPS,
        start.elapsed().as_secs_f64()
    );
}

/// Each of these, left out, is found by some program.
#[test]
fn omissions_are_found() {
    let planted = [
        Omission::WaitForWrite,
        Omission::WaitForReads,
        Omission::NoteRead,
        Omission::NoteWrite,
        Omission::TagOfFreed,
        Omission::DoneBeforeIdle,
        Omission::BehindOfReused,
        Omission::EventIsDone,
        Omission::EventOfTicket,
        Omission::StreamWaits,
        Omission::EventIsSpare,
        Omission::MarkOfGuest,
        Omission::GuestAfterGuest,
        Omission::NoteElsewhere,
        Omission::PeerWait,
        Omission::PeerNote,
        Omission::Loan,
        Omission::EndOfLoan,
    ];
    let is_found = |omission: Omission| {
        (1..300).any(|seed| {
            let plan = Plan {
                omission: Some(omission),
                faults: false,
                ..plan(seed)
            };
            !run(plan).is_empty()
        })
    };
    let missed: Vec<Omission> = planted.into_iter().filter(|&omission| !is_found(omission)).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
    assert!(
        (1..20).any(|seed| !uploads(seed, Omission::ChunkInUse).is_empty()),
        "staging memory"
    );
}
