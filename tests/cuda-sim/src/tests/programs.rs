//! Random programs that wait for all that they must: nothing is found, and what they compute is what a plain model computes. The same
//! programs with one wait left out compute the same at best, and are found where that wait was needed.

use super::driver::*;
use crate::codes::SUCCESS;
use crate::random::Random;

const BLOCKS: usize = 6;
const WORDS: usize = 64;
const BYTES: usize = 4 * WORDS;

/// One piece of work: it writes block `to`, from a value or from block `from`.
#[derive(Clone, Copy)]
struct Piece {
    stream: usize,
    to: usize,
    from: Option<usize>,
    value: u32,
}

/// Who has used a block: the last piece that wrote it, and those that have read it since.
#[derive(Clone, Default)]
struct Past {
    written: Option<usize>,
    read: Vec<usize>,
}

fn program(random: &mut Random) -> Vec<Piece> {
    (0..60)
        .map(|number| {
            let (stream, to) = (random.next(3), random.next(BLOCKS));
            let from =
                Some((to + 1 + random.next(BLOCKS - 1)) % BLOCKS).filter(|_| number >= BLOCKS && random.next(3) > 0);
            // Each block is written before it is read.
            let to = if number < BLOCKS { number } else { to };
            let value = number as u32 + 1;
            Piece {
                stream,
                to,
                from: from.filter(|&from| from != to),
                value,
            }
        })
        .collect()
}

/// Runs a program in the world of this thread; `without`: the wait of this number is left out. Whether there was such a wait, and what the blocks hold at the end.
fn run(pieces: &[Piece], without: Option<usize>) -> (bool, Vec<u8>) {
    // Half of the blocks are memory of the device, half of the host.
    let blocks: Vec<u64> = (0..BLOCKS)
        .map(|block| {
            if block % 2 == 0 {
                alloc(BYTES)
            } else {
                address(host_alloc(BYTES))
            }
        })
        .collect();
    let streams = [stream(), stream(), stream()];
    let mut past = vec![Past::default(); BLOCKS];
    let (mut events, mut waits) = (Vec::new(), 0);
    for (number, piece) in pieces.iter().enumerate() {
        let mut behind: Vec<usize> = past[piece.to].read.clone();
        behind.extend(past[piece.to].written);
        behind.extend(piece.from.and_then(|from| past[from].written));
        for other in behind {
            if pieces[other].stream != piece.stream {
                if without != Some(waits) {
                    wait(streams[piece.stream], events[other]);
                }
                waits += 1;
            }
        }
        let (to, stream) = (blocks[piece.to], streams[piece.stream]);
        match piece.from {
            Some(from) => {
                assert_eq!(copy(to, blocks[from], BYTES, stream), SUCCESS);
                past[from].read.push(number);
            }
            None => assert_eq!(fill(to, piece.value, WORDS, stream), SUCCESS),
        }
        past[piece.to] = Past {
            written: Some(number),
            read: Vec::new(),
        };
        events.push(event());
        record(events[number], stream);
    }
    assert_eq!(call!(cuCtxSynchronize()), SUCCESS);
    let held = blocks
        .iter()
        .flat_map(|&block| bytes_of(block, 1, streams[0]))
        .collect();
    (without.is_none_or(|without| without < waits), held)
}

fn model(pieces: &[Piece]) -> Vec<u8> {
    let mut blocks = vec![0; BLOCKS];
    for piece in pieces {
        blocks[piece.to] = piece.from.map_or(piece.value as u8, |from| blocks[from]);
    }
    blocks
}

#[test]
fn programs_in_order_compute_what_a_model_computes() {
    for seed in 0..150 {
        let session = Session::new(seed);
        let pieces = program(&mut Random::new(seed + 1000));
        let (_, held) = run(&pieces, None);
        session.is_clean();
        assert_eq!(held, model(&pieces), "seed {seed}");
    }
}

#[test]
fn a_wait_that_is_left_out_is_found_or_was_not_needed() {
    let (mut left_out, mut found, mut wrong) = (0, 0, 0);
    for seed in 0..300 {
        let pieces = program(&mut Random::new(seed % 10));
        // The outcome of the check is that of the program, and not of the order in which it is done.
        let outcomes = [seed + 1, seed + 2, seed + 3].map(|order| {
            let session = Session::new(order);
            let (is_left_out, held) = run(&pieces, Some(seed as usize % 37));
            let finds = !session.world.findings().is_empty();
            let differs = held != model(&pieces);
            assert!(finds || !differs, "seed {seed}: a wrong outcome, and nothing was found");
            (is_left_out, finds, differs)
        });
        assert!(
            outcomes.iter().all(|outcome| outcome.1 == outcomes[0].1),
            "seed {seed}: {outcomes:?}"
        );
        left_out += u32::from(outcomes[0].0);
        found += u32::from(outcomes[0].1);
        wrong += outcomes.iter().filter(|outcome| outcome.2).count();
    }
    assert!(
        left_out > 100 && found > left_out / 4 && wrong > 5,
        "{left_out} {found} {wrong}"
    );
}
