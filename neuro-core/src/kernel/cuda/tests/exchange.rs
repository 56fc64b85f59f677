//! DLPack on the simulated driver: what a consumer's stream does with a tensor, and ours with a producer's, is in order without a wait.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use super::calls;
use super::machine::Machine;
use crate::cuda::{Stream, handles, pointer};
use crate::device::Device;
use crate::dlpack::{
    self, Consumer, DL_CUDA, DLManagedTensor, DLManagedTensorVersioned, DLPACK_FLAG_BITMASK_READ_ONLY, Ready,
};
use crate::dtype::DType;
use crate::error::Error;
use crate::pool::MemoryPool;
use crate::pool::device::Engine;
use crate::tensor::DynTensor;

/// A consumer that has a tensor on loan.
pub(super) struct Consumes(NonNull<DLManagedTensor>);

// SAFETY: an export may be used and deleted on any thread.
unsafe impl Send for Consumes {}
// SAFETY: as above; a shared one shows an address.
unsafe impl Sync for Consumes {}

impl Consumes {
    pub(super) fn new(tensor: &DynTensor, consumer: Consumer) -> crate::Result<Self> {
        // SAFETY: tests destroy a stream after what it has on loan.
        unsafe { dlpack::export_to(tensor, consumer) }.map(Self)
    }

    pub(super) fn address(&self) -> u64 {
        // SAFETY: alive until this is dropped.
        unsafe { self.0.as_ref() }.dl_tensor.data.addr() as u64
    }

    /// The same tensor as another library hands it on, which keeps this until its own deleter is called.
    pub(super) fn into_a_strangers(self) -> NonNull<DLManagedTensor> {
        unsafe extern "C" fn delete(managed: *mut DLManagedTensor) {
            // SAFETY: made below, and deleted once.
            unsafe {
                let whole = Box::from_raw(managed);
                drop(Box::from_raw(whole.manager_ctx.cast::<Consumes>()));
            }
        }
        // SAFETY: alive; the copy's numbers stay as long as this does.
        let dl_tensor = unsafe { (&raw const (*self.0.as_ptr()).dl_tensor).read() };
        let manager_ctx = Box::into_raw(Box::new(self)).cast::<c_void>();
        let managed = DLManagedTensor {
            dl_tensor,
            manager_ctx,
            deleter: Some(delete),
        };
        NonNull::from(Box::leak(Box::new(managed)))
    }
}

impl Drop for Consumes {
    fn drop(&mut self) {
        // SAFETY: exported for this, and deleted once.
        unsafe { (self.0.as_ref().deleter.unwrap())(self.0.as_ptr()) };
    }
}

/// A tensor of another library over one of ours, taken in: none of ours, as far as we know.
pub(super) fn from_a_stranger(tensor: &DynTensor) -> crate::Result<DynTensor> {
    let stranger = Consumes::new(tensor, Consumer::DefaultStream)?.into_a_strangers();
    // SAFETY: as it made it; ready on the default stream, as the export was.
    unsafe { dlpack::import(stranger) }
}

/// Fills words on a stream, as a program that knows nothing of this library.
pub(super) fn fill(engine: &Arc<Engine>, stream: usize, to: u64, value: u32, words: usize) -> crate::Result<()> {
    calls::in_context(engine, || calls::fill(stream, to, value, words))
}

fn words(tensor: &DynTensor) -> Vec<u32> {
    tensor
        .to_pool(&MemoryPool::unlimited())
        .unwrap()
        .to_vec::<u32>()
        .unwrap()
}

struct Bed {
    machine: Machine,
    device: Device,
    pool: MemoryPool,
}

impl Bed {
    fn new(seed: u64, limit: usize) -> Self {
        let machine = Machine::new(seed, 1, false);
        let device = machine.devices[0];
        let pool = MemoryPool::new_gpu(device, limit).unwrap();
        Self { machine, device, pool }
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.machine.engines[0]
    }

    fn counting(&self, count: u32) -> DynTensor {
        let words: Vec<u32> = (0..count).collect();
        let host = DynTensor::from_slice_in(&MemoryPool::unlimited(), &[words.len()], &words).unwrap();
        host.to_pool(&self.pool).unwrap()
    }

    fn end(self) {
        drop(self.pool);
        assert_eq!(self.machine.end(false), Vec::<String>::new());
    }
}

/// What is under way when a tensor goes out is before the consumer's work, what is done here later is behind that, and the consumer's next
/// behind this; and its memory is handed out again behind the consumer, who dropped it while his work was under way.
#[test]
fn a_consumers_stream_is_in_order_with_ours_both_ways() {
    for seed in 1..30 {
        let bed = Bed::new(seed, 8192);
        // More streams than there are places for.
        let streams = [(); 7].map(|()| calls::stream(bed.engine()));
        let t = bed.counting(2000);
        let consumers = streams.map(|stream| Consumes::new(&t, Consumer::Stream(stream)).unwrap());
        let address = pointer(&t).unwrap();
        for (at, (consumer, stream)) in (0..).zip(consumers.iter().zip(streams)) {
            assert_eq!(consumer.address(), address);
            // Each writes words of its own; and our copy is behind all of them so far, and does not wait for the last.
            fill(bed.engine(), stream, address + at * 40, at as u32 + 9000, 10).unwrap();
        }
        let seen = words(&t);
        for at in 0..7 {
            assert_eq!(seen[at * 10..at * 10 + 10], [at as u32 + 9000; 10], "seed {seed}");
        }
        assert_eq!(seen[70..], (70..2000).collect::<Vec<u32>>());
        fill(bed.engine(), streams[6], address, 1, 2000).unwrap(); // behind our copy
        drop(t);
        drop(consumers);
        let next = DynTensor::zeros_in(&bed.pool, None, &[2000], DType::U32).unwrap();
        assert_eq!(pointer(&next).unwrap(), address, "there is room for one");
        assert_eq!(words(&next), [0; 2000], "seed {seed}");
        drop(next);
        streams.iter().for_each(|&stream| calls::destroy(bed.engine(), stream));
        bed.end();
    }
}

/// The default stream needs no place of the five, and takes one only.
#[test]
fn the_default_stream_is_one() {
    let bed = Bed::new(3, 1 << 20);
    let t = bed.counting(100);
    let consumers = [
        Consumer::DefaultStream,
        Consumer::Stream(0),
        Consumer::Stream(1),
        Consumer::Stream(2),
        Consumer::Unordered,
    ]
    .map(|consumer| Consumes::new(&t, consumer).unwrap());
    let raw = [(); 4].map(|()| calls::stream(bed.engine()));
    // SAFETY: they stay until these are dropped.
    let opened = raw.map(|raw| unsafe { Stream::of(bed.device, raw) }.unwrap());
    fill(bed.engine(), 0, consumers[0].address(), 5, 100).unwrap();
    assert_eq!(words(&t), [5; 100]);
    drop((t, consumers, opened));
    raw.iter().for_each(|&raw| calls::destroy(bed.engine(), raw));
    bed.end();
}

/// Another library's memory: ready where it says, in order with the default stream, and given back when our work is done.
#[test]
fn a_producers_memory_is_given_back_behind_our_work() {
    for seed in 1..30 {
        let bed = Bed::new(seed, 8192);
        let base = bed.counting(2000);
        let address = pointer(&base).unwrap();
        let producer = Consumes::new(&base, Consumer::DefaultStream).unwrap();
        fill(bed.engine(), 0, address, 3, 2000).unwrap();
        // SAFETY: as it made it, and ready there.
        let theirs = unsafe { dlpack::import(producer.into_a_strangers()) }.unwrap();
        assert_eq!(theirs.device(), bed.device);
        assert!(!theirs.storage().is_pooled());
        assert_eq!(pointer(&theirs).unwrap(), address);
        fill(bed.engine(), 0, address, 4, 1000).unwrap();
        let copy = theirs.to_pool(&MemoryPool::new_gpu(bed.device, 8192).unwrap()).unwrap();
        fill(bed.engine(), 0, address, 5, 2000).unwrap();
        drop((base, theirs)); // the copy may still be under way
        bed.engine().poll().unwrap();
        let next = DynTensor::zeros_in(&bed.pool, None, &[2000], DType::U32).unwrap();
        assert_eq!(words(&next), [0; 2000], "seed {seed}");
        let copied = words(&copy);
        assert_eq!((copied[0], copied[999], copied[1000]), (4, 4, 3), "seed {seed}");
        drop((next, copy));
        bed.end();
    }
}

/// What is ready on the stream that was named to the producer waits for nothing else.
#[test]
fn ready_on_our_own_stream() {
    let bed = Bed::new(5, 8192);
    let base = bed.counting(100);
    let address = pointer(&base).unwrap();
    let compute = handles(bed.device).unwrap().compute;
    let stranger = Consumes::new(&base, Consumer::Stream(compute))
        .unwrap()
        .into_a_strangers();
    fill(bed.engine(), compute, address, 3, 100).unwrap();
    // SAFETY: as it made it, and ready there.
    let theirs = unsafe { dlpack::import_ready(stranger, Ready::OnComputeStream, false) }.unwrap();
    assert_eq!(words(&theirs), [3; 100]);
    drop((base, theirs));
    bed.end();
}

/// What comes home is the same storage, also a part of it, and its loan is over.
#[test]
fn our_own_comes_home() {
    let bed = Bed::new(2, 1 << 20);
    let t = bed.counting(64);
    let sent = dlpack::export_versioned(&t).unwrap();
    // SAFETY: ours alone.
    let tensor = unsafe { &mut (*sent.as_ptr()).dl_tensor };
    assert_eq!(
        (tensor.device.device_type, tensor.device.device_id as u32),
        (DL_CUDA, number(bed.device))
    );
    // The last sixteen, by both ways to say so.
    tensor.data = tensor.data.wrapping_byte_add(32 * 4);
    tensor.byte_offset = 16 * 4;
    // SAFETY: the shape is ours to change.
    unsafe { *tensor.shape = 16 };
    // SAFETY: exported above.
    let back = unsafe { dlpack::import_versioned(sent) }.unwrap();
    assert_eq!(words(&back), (48..64).collect::<Vec<u32>>());
    assert!(crate::rc::Arc::ptr_eq(back.storage(), t.storage()));
    assert!(t.storage().device_block().unwrap().is_idle() || !words(&t).is_empty());
    let sent = dlpack::export_versioned(&t).unwrap();
    // SAFETY: ours alone.
    unsafe { (*sent.as_ptr()).dl_tensor.data = (*sent.as_ptr()).dl_tensor.data.wrapping_byte_add(4) };
    // SAFETY: exported above; what it says reaches behind the end.
    let refused = unsafe { dlpack::import_versioned(sent) }.unwrap_err();
    assert!(matches!(refused, Error::Exchange { .. }), "{refused}");
    // SAFETY: it was not taken.
    unsafe { (sent.as_ref().deleter.unwrap())(sent.as_ptr()) };
    drop((t, back));
    bed.end();
}

/// The same memory from somebody else who forbids to write it.
fn read_only(tensor: &DynTensor) -> DynTensor {
    unsafe extern "C" fn delete(managed: *mut DLManagedTensorVersioned) {
        // SAFETY: made below, and deleted once.
        unsafe { drop(Box::from_raw((*managed).manager_ctx.cast::<Versioned>())) };
    }
    struct Versioned(DLManagedTensorVersioned, NonNull<DLManagedTensorVersioned>);
    impl Drop for Versioned {
        fn drop(&mut self) {
            // SAFETY: exported below, and deleted once.
            unsafe { (self.1.as_ref().deleter.unwrap())(self.1.as_ptr()) };
        }
    }
    let sent = dlpack::export_versioned(tensor).unwrap();
    // SAFETY: alive; the numbers stay as long as `sent`.
    let copy = unsafe { sent.as_ptr().read() };
    let whole = Box::into_raw(Box::new(Versioned(copy, sent)));
    // SAFETY: ours alone, and nobody's before.
    unsafe {
        (*whole).0.manager_ctx = whole.cast();
        (*whole).0.deleter = Some(delete);
        (*whole).0.flags = DLPACK_FLAG_BITMASK_READ_ONLY;
        dlpack::import_versioned(NonNull::new_unchecked(&raw mut (*whole).0)).unwrap()
    }
}

/// The owner of memory that somebody has on loan here for good, who never says when he is done, gets it back behind his work.
#[test]
fn an_owner_gets_memory_back_behind_those_who_never_say_so() {
    let bed = Bed::new(6, 8192);
    let base = bed.counting(100);
    let theirs = from_a_stranger(&base).unwrap();
    drop(base);
    let address = crate::cuda::share(&theirs).unwrap();
    fill(bed.engine(), 0, address, 3, 100).unwrap();
    drop(theirs);
    assert_eq!(bed.pool.stats().live_blocks, 1, "that may still be under way");
    bed.engine().finish_kept();
    assert_eq!(bed.pool.stats().live_blocks, 0);
    bed.end();
}

/// What comes home from a stream that it was never lent to is behind that.
#[test]
fn our_own_comes_home_from_another_stream() {
    for seed in 1..30 {
        let bed = Bed::new(seed, 1 << 20);
        let stream = calls::stream(bed.engine());
        let t = bed.counting(1000);
        t.synchronize().unwrap();
        // SAFETY: it asks for no order.
        let sent = unsafe { dlpack::export_to(&t, Consumer::Unordered) }.unwrap();
        fill(bed.engine(), stream, pointer(&t).unwrap(), 8, 1000).unwrap();
        // SAFETY: exported above, and ready there.
        let back = unsafe { dlpack::import_ready(sent, Ready::OnStream(stream), false) }.unwrap();
        assert!(crate::rc::Arc::ptr_eq(back.storage(), t.storage()));
        assert_eq!(words(&back), [8; 1000], "seed {seed}");
        drop((t, back));
        calls::destroy(bed.engine(), stream);
        bed.end();
    }
}

/// Where the end of a loan cannot be marked, it is waited for.
#[test]
fn a_loan_whose_end_is_refused_is_over() {
    for seed in 1..30 {
        let bed = Bed::new(seed, 8192);
        // So many that the last has no place, and its end needs a mark.
        let streams = [(); 6].map(|()| calls::stream(bed.engine()));
        let others = bed.counting(10);
        let keep: Vec<Consumes> = (0..5)
            .map(|at| Consumes::new(&others, Consumer::Stream(streams[at])).unwrap())
            .collect();
        let t = bed.counting(1500);
        let last = Consumes::new(&t, Consumer::Stream(streams[5])).unwrap();
        fill(bed.engine(), streams[5], last.address(), 9, 1500).unwrap();
        bed.machine.world.fail_call("cuEventRecord", 999);
        drop(last);
        assert_eq!(words(&t), [9; 1500], "seed {seed}");
        drop((t, keep, others));
        streams.iter().for_each(|&stream| calls::destroy(bed.engine(), stream));
        bed.end();
    }
}

/// To a stream that is being captured nothing goes out, and from one nothing comes in: its work cannot be ordered with other work.
#[test]
fn a_stream_that_is_captured_is_refused() {
    let bed = Bed::new(4, 1 << 20);
    let stream = calls::stream(bed.engine());
    let t = bed.counting(10);
    t.synchronize().unwrap();
    let stranger = Consumes::new(&t, Consumer::DefaultStream).unwrap().into_a_strangers();
    bed.machine.world.capture(stream, true);
    let out = Consumes::new(&t, Consumer::Stream(stream)).err().unwrap();
    // SAFETY: as the stranger made it; refused, and then taken from where it is.
    let (back, theirs) = unsafe {
        let back = dlpack::import_ready(stranger, Ready::OnStream(stream), false).unwrap_err();
        (back, dlpack::import(stranger).unwrap())
    };
    for refused in [out, back] {
        assert!(refused.to_string().contains("captured"), "{refused}");
    }
    bed.machine.world.capture(stream, false);
    drop(Consumes::new(&t, Consumer::Stream(stream)).unwrap());
    drop((t, theirs));
    calls::destroy(bed.engine(), stream);
    bed.end();
}

fn number(device: Device) -> u32 {
    match device {
        Device::Cuda(number) => number,
        _ => unreachable!(),
    }
}

/// A refusal consumes nothing: there is no such device; the tensor is read-only and the old structure cannot say so; the stream is captured.
#[test]
fn refusals_leave_everything_as_it_was() {
    let bed = Bed::new(1, 1 << 20);
    let t = bed.counting(64);
    for id in [-1, 7_000_000] {
        let sent = Consumes::new(&t, Consumer::DefaultStream).unwrap().into_a_strangers();
        // SAFETY: ours alone; then refused, and deleted by hand.
        let refused = unsafe {
            (*sent.as_ptr()).dl_tensor.device.device_id = id;
            let refused = dlpack::import(sent).unwrap_err();
            (sent.as_ref().deleter.unwrap())(sent.as_ptr());
            refused
        };
        let text = refused.to_string();
        assert!(
            matches!(refused, Error::Exchange { .. }) && text.contains(&id.to_string()),
            "{text}"
        );
    }
    let readonly = read_only(&t);
    assert!(matches!(dlpack::export(&readonly), Err(Error::Exchange { .. })));
    let versioned: NonNull<DLManagedTensorVersioned> = dlpack::export_versioned(&readonly).unwrap();
    // SAFETY: ours alone.
    unsafe {
        assert_eq!(versioned.as_ref().flags, DLPACK_FLAG_BITMASK_READ_ONLY);
        (versioned.as_ref().deleter.unwrap())(versioned.as_ptr());
    }
    bed.machine.world.fail_call("cuStreamWaitEvent", 999);
    let stream = calls::stream(bed.engine());
    let busy = DynTensor::zeros_in(&bed.pool, None, &[10], DType::U32).unwrap();
    let refused = Consumes::new(&busy, Consumer::Stream(stream));
    assert!(
        matches!(refused, Err(Error::Driver { code: 999, .. })),
        "the wait was refused"
    );
    drop(Consumes::new(&busy, Consumer::Stream(stream)).unwrap());
    drop((t, readonly, busy));
    calls::destroy(bed.engine(), stream);
    bed.end();
}
