//! Runs two parts at once on two threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};

use bench_worker::{Clock, Part, Result, Work, chunks};

/// Two parts, on a processor each: ours on this thread, the other on one that stays for the rest of the process, so that
/// allocators keep what they hold for it. A step is one of each.
pub struct Duo {
    ours: Box<dyn Part>,
    gate: Arc<Gate>,
    orders: Sender<usize>,
}

impl Duo {
    /// Each part is made on the thread that runs it.
    pub fn new(
        ours: impl FnOnce() -> Result<Box<dyn Part>>,
        other: impl FnOnce() -> Result<Box<dyn Part>> + Send + 'static,
    ) -> Result<Self> {
        let processors = allowed();
        let [first, .., last] = processors[..] else {
            return Err("two threads need two processors".into());
        };
        let gate = Arc::new(Gate::default());
        let (orders, received) = channel();
        let (ready, is_ready) = channel();
        let theirs = Arc::clone(&gate);
        std::thread::spawn(move || {
            stay_on(first);
            match other() {
                Ok(part) => {
                    let _ = ready.send(Ok(()));
                    drop(ready);
                    serve(part, &theirs, &received);
                }
                Err(error) => drop(ready.send(Err(error.to_string()))),
            }
        });
        is_ready.recv()??;
        stay_on(last);
        Ok(Self {
            ours: ours()?,
            gate,
            orders,
        })
    }
}

impl Work for Duo {
    /// From the start of both to the end of the later one; on the wall's clock whatever is asked, since the threads'
    /// own would not count what they wait for each other.
    fn run(&mut self, steps: usize, _: Clock) -> Result<f64> {
        let mut seconds = 0.0;
        for steps in chunks(steps) {
            self.orders.send(steps).expect("the other thread waits for orders");
            self.ours.draw(steps);
            self.gate.pass();
            let start = Clock::Wall.seconds();
            self.ours.run();
            self.gate.pass();
            seconds += Clock::Wall.seconds() - start;
        }
        Ok(seconds)
    }
}

/// The other thread's work: until there are no more orders.
fn serve(mut part: Box<dyn Part>, gate: &Gate, orders: &Receiver<usize>) {
    for steps in orders {
        part.draw(steps);
        gate.pass();
        part.run();
        gate.pass();
    }
}

/// Lets two threads through together. They spin: to sleep and be woken would take longer than what is timed.
#[derive(Default)]
struct Gate(AtomicUsize);

impl Gate {
    fn pass(&self) {
        let both = self.0.fetch_add(1, SeqCst) / 2 * 2 + 2;
        let mut patience = Patience::default();
        while self.0.load(SeqCst) < both {
            patience.wait();
        }
    }
}

/// Spins for a while, then lets others have the processor.
#[derive(Default)]
pub struct Patience(u32);

impl Patience {
    pub fn wait(&mut self) {
        self.0 += 1;
        match self.0 {
            ..4096 => std::hint::spin_loop(),
            _ => std::thread::yield_now(),
        }
    }
}

/// The processors this process may use.
fn allowed() -> Vec<usize> {
    // SAFETY: a set of bits, all zero, which the call below fills.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is ours, with its true size.
    let status = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    assert_eq!(status, 0, "a thread may ask where it runs");
    // SAFETY: each number is below the set's size.
    (0..libc::CPU_SETSIZE as usize)
        .filter(|&number| unsafe { libc::CPU_ISSET(number, &set) })
        .collect()
}

/// Keeps the calling thread on one processor.
fn stay_on(processor: usize) {
    // SAFETY: a set of bits, all zero; the number came out of such a set, and the set's size is its true one.
    let status = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    assert_eq!(status, 0, "the processor is one we may use");
}
