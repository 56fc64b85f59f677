//! A random program on a machine, on two threads: everything that a user can do with memory of two devices, in any order.
//!
//! What a tensor holds is known all the time, and compared whenever one comes to the host. Whether uses are ordered the simulated driver says; on
//! a card it shows in what tensors hold, since kernels begin late there.

mod guests;
mod lent;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::calls;
use super::machine::Machine;
use crate::backend::planted::{Omission, without};
use crate::cuda::{Function, Stream};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::pool::MemoryPool;
use crate::tensor::{DynTensor, Transfer};

/// What a program is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Of each thread.
    pub(super) steps: usize,
    /// Calls of the driver fail now and then.
    pub(super) faults: bool,
    pub(super) omission: Option<Omission>,
    /// What blocks of devices are allocations of their own.
    pub(super) debug: bool,
}

/// Runs a program: what was found.
pub(super) fn run(plan: Plan) -> Vec<String> {
    let mut random = Random::new(plan.seed);
    let machine = Machine::new(plan.seed, 2, random.below(2) == 0);
    let memory = 64 << 10 << random.below(6);
    (0..2).for_each(|device| machine.world.set_memory(device, memory + (1 << 20)));
    run_on(machine, plan, &mut random, Delay::None)
}

/// How long a kernel counts before it reads, at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Delay {
    None,
    /// Rounds.
    UpTo(usize),
}

/// Runs a program on the machine that the test runs on, if it has a device: what was found.
pub(super) fn run_here(plan: Plan) -> Option<Vec<String>> {
    let (machine, is_simulated) = Machine::here()?;
    // Milliseconds of a card; as many steps of a simulated one.
    let delay = Delay::UpTo(if is_simulated { 8 } else { 1 << 20 });
    Some(run_on(machine, plan, &mut Random::new(plan.seed), delay))
}

fn run_on(machine: Machine, plan: Plan, random: &mut Random, delay: Delay) -> Vec<String> {
    let pools = Pools::new(&machine, plan, random, delay);
    let (shelf, alone) = (Mutex::default(), Arc::default());
    let wrong: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (machine, pools, shelf, alone, wrong) = (&machine, &pools, &shelf, &alone, &wrong);
            scope.spawn(move || {
                let _here = machine.enter();
                let work = || {
                    let mut actor = Actor::new(machine, pools, (shelf, alone), plan, thread);
                    (0..plan.steps).for_each(|_| actor.step());
                    actor.end()
                };
                let found = match plan.omission {
                    Some(omission) => without(omission, work),
                    None => work(),
                };
                wrong.lock().unwrap().extend(found);
            });
        }
    });
    machine.world.fail_nth(0, 0);
    drop(shelf);
    while alone.load(Ordering::Acquire) > 0 {
        std::thread::yield_now();
    }
    drop(pools);
    let mut found = wrong.into_inner().unwrap();
    found.extend(machine.end(plan.faults));
    found
}

/// Uploads of memory that is not page-locked, one after the other, which use all of the staging memory again and again.
pub(super) fn uploads(seed: u64, omission: Omission) -> Vec<String> {
    let machine = Machine::new(seed, 1, false);
    let pool = MemoryPool::new_gpu(machine.devices[0], 4 << 20).unwrap();
    let send = || {
        for at in 0..40u32 {
            let source = DynTensor::from_slice_in(&MemoryPool::unlimited(), &[4096], &[at; 4096]).unwrap();
            drop(source.to_pool(&pool).unwrap());
        }
    };
    without(omission, send);
    drop(pool);
    machine.end(false)
}

struct Pools {
    device: Vec<MemoryPool>,
    host: Vec<MemoryPool>,
    /// A kernel, on each device.
    kernels: Vec<Function>,
    delay: Delay,
}

impl Pools {
    fn new(machine: &Machine, plan: Plan, random: &mut Random, delay: Delay) -> Self {
        let kernel = match delay {
            Delay::None => calls::kernel,
            Delay::UpTo(_) => calls::late_kernel,
        };
        let limit = 256 << 10 << random.below(3);
        // Between two devices memory that grows is copied through the host, so it must not be everywhere.
        let expandable = random.below(4);
        let device = machine.devices.iter().enumerate().map(|(at, &device)| {
            let pool = MemoryPool::new_gpu(device, limit).unwrap();
            pool.with_expandable(at == expandable).with_debug(plan.debug)
        });
        let locker = &machine.engines[random.below(2)];
        Self {
            kernels: machine.devices.iter().map(|&device| kernel(device)).collect(),
            delay,
            device: device.collect(),
            host: vec![
                MemoryPool::unlimited(),
                MemoryPool::unlimited().with_gpu_support(true).locked_by(locker),
            ],
        }
    }
}

/// A tensor, and what it holds.
#[derive(Clone)]
struct Item {
    tensor: DynTensor,
    holds: Arc<Vec<u32>>,
    /// Another thread may look at it: nobody writes it any more.
    shared: bool,
}

struct Guest {
    device: usize,
    raw: usize,
    stream: Option<Stream>,
}

struct Actor<'a> {
    machine: &'a Machine,
    pools: &'a Pools,
    shelf: &'a Mutex<Vec<Item>>,
    /// Transfers that nobody waits for.
    alone: &'a Arc<AtomicUsize>,
    plan: Plan,
    random: Random,
    items: Vec<Item>,
    ways: Vec<(Transfer, Arc<Vec<u32>>)>,
    guests: Vec<Guest>,
    lent: Vec<lent::Lent>,
    wrong: Vec<String>,
}

impl<'a> Actor<'a> {
    fn new(
        machine: &'a Machine,
        pools: &'a Pools,
        (shelf, alone): (&'a Mutex<Vec<Item>>, &'a Arc<AtomicUsize>),
        plan: Plan,
        thread: u64,
    ) -> Self {
        let guests = (0..2).map(|device| Guest {
            device,
            raw: calls::stream(&machine.engines[device]),
            stream: None,
        });
        Self {
            machine,
            pools,
            shelf,
            alone,
            plan,
            random: Random::new(plan.seed.wrapping_mul(31) + thread + 1),
            items: Vec::new(),
            ways: Vec::new(),
            guests: guests.collect(),
            lent: Vec::new(),
            wrong: Vec::new(),
        }
    }

    fn step(&mut self) {
        match self.random.below(29) {
            0 | 1 => self.upload(),
            2 => self.upload_async(),
            3 => self.finish_one(),
            4 => self.copy(),
            5 | 6 => self.download(),
            7 => self.download_async(),
            8 | 9 => self.guest_fills(),
            10 => self.guest_copies(),
            11 => self.guest_by_hand(),
            12 => self.zeros(),
            13 | 14 => self.forget(),
            15 => self.share(),
            16 => self.guest_waits(),
            17 => self.change_guest(),
            18 => self.maybe_fail(),
            19..22 => self.launch(),
            22 => self.lend(),
            23 | 24 => self.consumer_writes(),
            25 => self.use_lent(),
            26 => self.end_loan(),
            27 => self.adopt(),
            _ => drop(self.pools.device[self.random.below(2)].trim(0)),
        }
    }

    /// What is wrong with an error, if anything is: memory may be short, and what fails on order may be said.
    fn ok<T>(&mut self, what: &str, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Error::OutOfMemory { .. }) => {
                let half = self.items.len() / 2;
                self.items.drain(..half);
                None
            }
            Err(Error::Driver { .. }) if self.plan.faults => None,
            Err(error) => {
                self.wrong.push(format!("{what}: {error}"));
                None
            }
        }
    }

    fn words(&mut self) -> Arc<Vec<u32>> {
        let most = if self.random.below(8) == 0 { 16 << 10 } else { 512 };
        let (count, first) = (1 + self.random.below(most), self.random.next() as u32);
        Arc::new((0..count as u32).map(|at| first.wrapping_add(at)).collect())
    }

    fn hold(&mut self, tensor: DynTensor, holds: Arc<Vec<u32>>) {
        if self.items.len() > 24 {
            let at = self.random.below(self.items.len());
            self.items.swap_remove(at);
        }
        self.items.push(Item {
            tensor,
            holds,
            shared: false,
        });
    }

    fn host_tensor(&mut self) -> Option<(DynTensor, Arc<Vec<u32>>)> {
        let holds = self.words();
        let pool = &self.pools.host[self.random.below(2)];
        let tensor = DynTensor::from_slice_in(pool, &[holds.len()], &holds);
        Some((self.ok("from_slice", tensor)?, holds))
    }

    fn upload(&mut self) {
        let Some((mut source, holds)) = self.host_tensor() else {
            return;
        };
        let sent = source.to_pool(&self.pools.device[self.random.below(2)]);
        if let Some(tensor) = self.ok("to_pool", sent) {
            // The caller may do what he likes with it now.
            source.as_mut_slice::<u32>().unwrap().fill(0xdead_beef);
            self.hold(tensor, holds);
        }
    }

    fn upload_async(&mut self) {
        let Some((source, holds)) = self.host_tensor() else {
            return;
        };
        let sent = source.to_pool_async(&self.pools.device[self.random.below(2)]);
        if let Some(way) = self.ok("to_pool_async", sent) {
            self.ways.push((way, holds));
        }
    }

    /// A transfer is waited for, or left to itself.
    fn finish_one(&mut self) {
        if self.ways.is_empty() {
            return;
        }
        let at = self.random.below(self.ways.len());
        let (way, holds) = self.ways.swap_remove(at);
        if self.random.below(4) == 0 {
            return self.leave(&way);
        }
        let landed = way.wait();
        drop(way);
        if let Some(tensor) = self.ok("wait", landed) {
            self.look("a transfer", &tensor, &holds);
            self.hold(tensor, holds);
        }
    }

    /// A transfer goes to its end by itself. The program does not end before.
    fn leave(&self, way: &Transfer) {
        self.alone.fetch_add(1, Ordering::Relaxed);
        let alone = Arc::clone(self.alone);
        way.then(move |landed| {
            drop(landed);
            alone.fetch_sub(1, Ordering::Release);
        });
    }

    fn pick(&mut self, on: impl Fn(&Item) -> bool) -> Option<usize> {
        let fit: Vec<usize> = (0..self.items.len()).filter(|&at| on(&self.items[at])).collect();
        (!fit.is_empty()).then(|| fit[self.random.below(fit.len())])
    }

    fn pick_on(&mut self, device: usize, mine: bool) -> Option<usize> {
        let device = self.machine.devices[device];
        self.pick(|item| item.tensor.device() == device && !(mine && item.shared))
    }

    fn copy(&mut self) {
        let Some(at) = self.pick(|_| true) else { return };
        let Item { tensor, holds, .. } = self.items[at].clone();
        let copied = tensor.to_pool(&self.pools.device[self.random.below(2)]);
        if let Some(copy) = self.ok("copy", copied) {
            self.hold(copy, holds);
        }
    }

    fn look(&mut self, what: &str, tensor: &DynTensor, holds: &[u32]) {
        // Where a mistake was planted, the simulated driver is the one to find it.
        if tensor.device() == crate::Device::Cpu && (self.plan.omission.is_none() || self.pools.delay != Delay::None) {
            let words = tensor.to_vec::<u32>().unwrap();
            if words != holds {
                let at = words.iter().zip(holds).position(|(word, holds)| word != holds);
                self.wrong
                    .push(format!("{what} of {} words differs from word {at:?} on", holds.len()));
            }
        }
    }

    fn download(&mut self) {
        let Some(at) = self.pick(|_| true) else { return };
        let Item { tensor, holds, .. } = self.items[at].clone();
        let pool = &self.pools.host[self.random.below(2)];
        let landed = tensor.to_pool(pool);
        if let Some(there) = self.ok("download", landed) {
            self.look("what comes down", &there, &holds);
            self.hold(there, holds);
        }
    }

    fn download_async(&mut self) {
        let Some(at) = self.pick(|_| true) else { return };
        let Item { tensor, holds, .. } = self.items[at].clone();
        let way = tensor.to_pool_async(&self.pools.host[self.random.below(2)]);
        // Nobody writes it until then: it counts as shared from now on.
        self.items[at].shared = true;
        if let Some(way) = self.ok("download_async", way) {
            self.ways.push((way, holds));
        }
    }

    fn zeros(&mut self) {
        let count = 1 + self.random.below(512);
        let pool = &self.pools.device[self.random.below(2)];
        let made = DynTensor::zeros_in(pool, None, &[count], DType::U32);
        if let Some(tensor) = self.ok("zeros", made) {
            self.hold(tensor, Arc::new(vec![0; count]));
        }
    }

    fn forget(&mut self) {
        if !self.items.is_empty() {
            let at = self.random.below(self.items.len());
            self.items.swap_remove(at);
        }
    }

    fn share(&mut self) {
        let mut shelf = self.shelf.lock().unwrap();
        if self.random.below(2) == 0 && !shelf.is_empty() {
            let at = self.random.below(shelf.len());
            let item = shelf.swap_remove(at);
            drop(shelf);
            self.items.push(item);
        } else if !self.items.is_empty() {
            let at = self.random.below(self.items.len());
            self.items[at].shared = true;
            shelf.push(self.items[at].clone());
            let gone = (shelf.len() > 8).then(|| shelf.swap_remove(0));
            drop(shelf);
            drop(gone);
        }
    }

    fn maybe_fail(&mut self) {
        if self.plan.faults {
            let code = [1, 2, 999, 98_765][self.random.below(4)];
            self.machine.world.fail_nth(1 + self.random.below(12) as u64, code);
        }
    }

    fn end(mut self) -> Vec<String> {
        self.machine.world.fail_nth(0, 0);
        for (way, holds) in std::mem::take(&mut self.ways) {
            let landed = way.wait();
            if let Some(tensor) = self.ok("wait", landed) {
                self.look("a transfer", &tensor, &holds);
            }
        }
        for at in 0..self.items.len() {
            let Item { tensor, holds, .. } = self.items[at].clone();
            let landed = tensor.to_pool(&self.pools.host[0]);
            if let Some(there) = self.ok("at the end", landed) {
                self.look("what is left", &there, &holds);
            }
        }
        self.items.clear();
        while !self.lent.is_empty() {
            self.use_lent();
            self.end_loan();
            self.items.clear();
        }
        for mut guest in self.guests.drain(..) {
            guest.stream = None;
            calls::destroy(&self.machine.engines[guest.device], guest.raw);
        }
        self.wrong
    }
}

/// Numbers that a seed decides.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, below: usize) -> usize {
        self.next() as usize % below
    }
}
