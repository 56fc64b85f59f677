//! One thread allocates, another frees; a ring between them. Blocks are not touched.

use std::ops::RangeInclusive;

use bench_worker::{Part, Random};
use rtrb::{Consumer, Producer, RingBuffer};

use super::drive::Patience;
use crate::peers::Peer;

/// Blocks in the ring at most.
const RING: usize = 1024;

type Sent<P> = (<P as Peer>::Handle, u32);

pub struct Maker<P: Peer> {
    peer: P,
    sizes: Vec<u32>,
    range: RangeInclusive<u32>,
    random: Random,
    ring: Producer<Sent<P>>,
}

pub struct Taker<P: Peer> {
    peer: P,
    steps: usize,
    ring: Consumer<Sent<P>>,
}

/// The two ends, for two threads; `twin` is `peer` for the other one.
pub fn pair<P: Peer>(peer: P, twin: P, range: RangeInclusive<u32>) -> (Maker<P>, Taker<P>) {
    let (sender, receiver) = RingBuffer::new(RING);
    let maker = Maker {
        peer,
        sizes: Vec::new(),
        range,
        random: Random::new(1),
        ring: sender,
    };
    let taker = Taker {
        peer: twin,
        steps: 0,
        ring: receiver,
    };
    (maker, taker)
}

impl<P: Peer> Part for Maker<P> {
    fn draw(&mut self, steps: usize) {
        let (random, range) = (&mut self.random, &self.range);
        self.sizes.clear();
        self.sizes
            .extend((0..steps).map(|_| random.size(*range.start(), *range.end())));
    }

    fn run(&mut self) {
        for &bytes in &self.sizes {
            let block = self.peer.allocate(bytes).expect("there is room");
            let mut patience = Patience::default();
            while self.ring.push((block, bytes)).is_err() {
                patience.wait();
            }
        }
    }
}

impl<P: Peer> Part for Taker<P> {
    fn draw(&mut self, steps: usize) {
        self.steps = steps;
    }

    fn run(&mut self) {
        for _ in 0..self.steps {
            let mut patience = Patience::default();
            let (block, bytes) = loop {
                match self.ring.pop() {
                    Ok(sent) => break sent,
                    Err(_) => patience.wait(),
                }
            };
            // SAFETY: the maker sent it, live and with its size, and has forgotten it.
            unsafe { self.peer.free(block, bytes) };
        }
    }
}
