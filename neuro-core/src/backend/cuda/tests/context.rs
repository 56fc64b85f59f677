//! The context that the caller has current: after every call it is what it was, whatever the call said.

use super::*;
use crate::backend::raw_cuda::Launch;

/// Every public call once, some of them refused; `check` is asked after each.
fn every_call(bed: &Bed, check: &mut dyn FnMut(&str)) {
    let device = bed.device;
    let context = device.handles().context;
    let [stream, closed] = [(); 2].map(|()| stream_of(context));
    check("nothing");
    let slabs: Vec<Slab> = [SlabKind::Device, SlabKind::Upload, SlabKind::Readback]
        .iter()
        .map(|&kind| {
            let slab = bed.slab(256, kind);
            check("allocate");
            slab
        })
        .collect();
    assert!(device.allocate(u64::MAX, SlabKind::Device).is_err());
    check("allocate, refused");
    assert!(device.allocate(64, SlabKind::Exported).is_err());
    check("allocate, never");
    let written = bed.fill(Queue::UPLOAD, &[], &slabs[0], 1).unwrap();
    check("submit");
    let read = bed.copy(Queue::DOWNLOAD, &[written], &slabs[0], &slabs[2]).unwrap();
    check("submit with waits");
    let _ = device.done(Queue::DOWNLOAD).unwrap();
    check("done");
    device.wait(read).unwrap();
    check("wait");
    device.wait(read).unwrap();
    check("wait for what is done");
    assert!(device.budget().is_some());
    check("budget");
    let queue = bed.open(stream).unwrap();
    check("open_stream");
    let guest = bed.fill(queue, &[read], &slabs[0], 2).unwrap();
    check("submit to a guest");
    let _ = device.so_far(queue).unwrap();
    device.hold(Queue::COMPUTE, &[guest]).unwrap();
    check("hold");
    assert_eq!(device.events_of(&[guest]).unwrap().len(), 1);
    check("events_of");
    device.close_stream(queue);
    check("close_stream");
    assert!(bed.fill(QUEUES[7], &[], &slabs[0], 3).is_err());
    check("submit, refused");
    const PTX: &[u8] = b".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry none()\n{\n    ret;\n}\n\0";
    let module = device.load_module(PTX).unwrap();
    check("load_module");
    assert!(device.load_module(b"no PTX\0").is_err());
    check("load_module, refused");
    let launch = Launch {
        function: device.function(module, c"none").unwrap(),
        grid: [1; 3],
        block: [1; 3],
        shared_bytes: 0,
        params: &[],
    };
    check("function");
    assert!(device.function(module, c"other").is_err());
    check("function, refused");
    // SAFETY: the kernel touches nothing.
    let launched = unsafe {
        device.with_stream(Queue::COMPUTE, &[], &mut |stream| {
            assert_eq!(current(), context, "in a turn it is the device's");
            device.launch(stream, &launch).is_ok()
        })
    };
    check("with_stream");
    // SAFETY: nothing is submitted.
    let none = unsafe { device.with_stream(Queue::COMPUTE, &[], &mut |_| false) };
    assert_eq!(none, Ok(None));
    check("with_stream, nothing");
    let panicked = std::panic::catch_unwind(|| {
        // SAFETY: nothing is submitted.
        unsafe { device.with_stream(Queue::COMPUTE, &[], &mut |_| std::panic::resume_unwind(Box::new(()))) }
    });
    assert!(panicked.is_err());
    check("with_stream, panicked");
    device.wait(launched.unwrap().unwrap()).unwrap();
    device.wait(guest).unwrap();
    // SAFETY: all work is done.
    unsafe { device.unload_module(module) };
    check("unload_module");
    let ranges = device.ranges().unwrap();
    let piece = ranges.granularity();
    let range = ranges.reserve(4 * piece, piece).unwrap();
    check("reserve");
    ranges.extend(range.id, 2 * piece).unwrap();
    check("extend");
    // SAFETY: no work uses it.
    assert_eq!(unsafe { ranges.shorten(range.id, piece) }, piece);
    check("shorten");
    slabs.iter().chain([&range]).for_each(|slab| {
        bed.free(slab);
        check("free");
    });
    [stream, closed].iter().for_each(|&stream| destroy(context, stream));
}

/// Another context of the same world, or none.
fn callers(world: &World) -> [usize; 2] {
    let mut other = 0;
    let code = call!("cuDevicePrimaryCtxRetain": fn(*mut usize, i32), &mut other, world.device(1));
    assert_eq!(code, 0);
    [0, other]
}

fn set_current(context: usize) {
    assert_eq!(call!("cuCtxSetCurrent": fn(usize), context), 0);
}

fn two_devices(seed: u64) -> Bed {
    let world = World::with_devices(seed, 2, false);
    let _here = world.enter();
    let device = CudaDevice::simulated(driver(), 0);
    Bed { world, device }
}

/// Gives the caller's own context back, and ends the device: that leaves the current one, too.
fn leave(bed: Bed) {
    let code = call!("cuDevicePrimaryCtxRelease_v2": fn(i32), bed.world.device(1));
    assert_eq!(code, 0);
    bed.end();
}

#[test]
fn the_callers_context_is_as_it_was() {
    let bed = two_devices(1);
    let _here = bed.world.enter();
    for mine in callers(&bed.world) {
        set_current(mine);
        every_call(&bed, &mut |call| assert_eq!(current(), mine, "after {call}"));
    }
    let mine = current();
    bed.shut_down(&[]);
    assert_eq!(current(), mine, "after shut_down");
    set_current(0);
    leave(bed);
}

#[test]
fn the_devices_own_context_is_as_it_was() {
    let bed = two_devices(2);
    let _here = bed.world.enter();
    let own = bed.device.handles().context;
    set_current(own);
    every_call(&bed, &mut |call| assert_eq!(current(), own, "after {call}"));
    set_current(0);
    bed.end();
}

/// Each call of the driver fails once: whatever comes of it, the caller's context is his.
#[test]
fn the_callers_context_is_as_it_was_after_refusals() {
    let bed = two_devices(3);
    let _here = bed.world.enter();
    let [_, mine] = callers(&bed.world);
    set_current(mine);
    for n in 1.. {
        bed.world.fail_nth(n, 999);
        let before = bed.world.calls();
        let slab = bed.device.allocate(64, SlabKind::Readback);
        if let Ok(slab) = slab {
            let written = bed.fill(Queue::COMPUTE, &[], &slab, 1);
            let behind: Vec<Ticket> = written.iter().copied().collect();
            let read = bed.fill(Queue::UPLOAD, &behind, &slab, 2);
            assert_eq!(current(), mine);
            for ticket in [written, read].into_iter().flatten() {
                while bed.device.wait(ticket).is_err() {
                    assert_eq!(current(), mine);
                }
            }
            bed.free(&slab);
        }
        assert_eq!(current(), mine, "call {n} was refused");
        bed.world.fail_nth(0, 0);
        let calls: u64 = bed.world.calls().counts.values().sum();
        if calls - before.counts.values().sum::<u64>() < n {
            break;
        }
    }
    set_current(0);
    leave(bed);
}

#[test]
fn each_thread_keeps_its_own() {
    let bed = two_devices(4);
    let _here = bed.world.enter();
    let both = callers(&bed.world);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (bed, mine) = (&bed, both[thread % 2]);
            scope.spawn(move || {
                let _here = bed.world.enter();
                set_current(mine);
                let slab = bed.slab(256, SlabKind::Readback);
                for round in 0..20 {
                    let ticket = bed.fill(OWN_QUEUES[(thread + round) % 3], &[], &slab, 1).unwrap();
                    assert_eq!(current(), mine);
                    bed.device.wait(ticket).unwrap();
                    assert_eq!(current(), mine);
                }
                bed.free(&slab);
                assert_eq!(current(), mine);
            });
        }
    });
    leave(bed);
}
