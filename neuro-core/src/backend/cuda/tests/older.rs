//! Drivers that lack calls: those that every driver must have are named, and each of the others costs the feature that needs it.

use super::super::driver::NAMES;
use super::*;
use crate::backend::contract;
use crate::backend::raw_cuda::Launch;
use crate::dtype::DType;
use crate::kernel::cuda::tests::machine::Machine;
use crate::pool::MemoryPool;
use crate::tensor::DynTensor;

fn older(missing: &str) -> Bed {
    Bed::with(driver_without(&[missing]).unwrap(), 1)
}

/// What is said of a call that is not there.
fn lacks<T: fmt::Debug>(result: Result<T, Refusal>, name: &str) {
    match result {
        Err(Refusal::Call { call, code: 0, meaning }) => {
            assert_eq!(call, name);
            assert!(meaning.contains(name) && meaning.contains("newer driver"), "{meaning}");
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn what_every_driver_must_have_is_named() {
    assert_eq!(NAMES.0.len(), 28);
    for &name in NAMES.0 {
        assert_eq!(driver_without(&[name]).err(), Some(name));
    }
}

#[test]
fn what_a_driver_may_lack_costs_nothing_else() {
    for &name in NAMES.1 {
        println!("without {name}");
        let bed = older(name);
        for rule in [
            contract::b2_waits_order_queues,
            contract::b4_what_work_wrote_is_seen,
            contract::b5_what_the_host_wrote_is_seen,
            contract::b6_a_refusal_takes_no_ticket,
            contract::b8_too_much_is_refused,
            contract::b10_host_memory_is_used_where_it_lies,
            contract::b12_a_slab_grows_where_it_is,
        ] {
            rule(bed.device);
        }
        let context = bed.device.handles().context;
        let stream = stream_of(context);
        let queue = bed.open(stream).unwrap();
        let slab = bed.slab(4096, SlabKind::Readback);
        bed.device.wait(bed.fill(queue, &[], &slab, 3).unwrap()).unwrap();
        assert_eq!(words(&slab), [3; 1024], "{name}");
        bed.free(&slab);
        bed.device.close_stream(queue);
        destroy(context, stream);
        bed.end();
    }
    // And all of them at once.
    let bed = Bed::with(driver_without(NAMES.1).unwrap(), 2);
    contract::b4_what_work_wrote_is_seen(bed.device);
    contract::b9_from_many_threads(bed.device);
    bed.end();
}

/// Memory that could be locked and never unlocked is not locked.
#[test]
fn without_either_call_host_memory_is_not_imported() {
    let layout = std::alloc::Layout::from_size_align(4096, 4096).unwrap();
    for name in ["cuMemHostRegister_v2", "cuMemHostUnregister"] {
        let bed = older(name);
        assert_eq!(bed.device.facts().import_alignment, None);
        // SAFETY: of some bytes.
        let memory = NonNull::new(unsafe { std::alloc::alloc(layout) }).unwrap();
        // SAFETY: a page of the test's own, which stays until it is given back.
        let imported = unsafe { bed.device.import_host(memory, 4096) };
        let Err(Refusal::Call { meaning, .. }) = imported else {
            panic!("{imported:?}")
        };
        assert!(meaning.contains(name.trim_end_matches("_v2")), "{meaning}");
        assert_eq!(bed.world.calls().of("cuMemHostRegister_v2"), 0);
        // SAFETY: from above.
        unsafe { std::alloc::dealloc(memory.as_ptr(), layout) };
        bed.end();
    }
}

#[test]
fn without_one_call_of_virtual_memory_there_are_no_ranges() {
    let of_ranges = |name: &&&str| {
        let parts = [
            "Address",
            "Granularity",
            "MemCreate",
            "MemRelease",
            "MemMap",
            "MemUnmap",
            "SetAccess",
        ];
        parts.iter().any(|part| name.contains(part))
    };
    assert_eq!(NAMES.1.iter().filter(of_ranges).count(), 8);
    for name in NAMES.1.iter().filter(of_ranges) {
        let bed = older(name);
        assert!(bed.device.ranges().is_none(), "{name}");
        contract::b12_a_slab_grows_where_it_is(bed.device);
        let calls = bed.world.calls();
        assert!(
            ["cuMemAddressReserve", "cuMemCreate", "cuMemMap"]
                .iter()
                .all(|name| calls.of(name) == 0)
        );
        bed.end();
    }
    assert!(Bed::new(1).device.ranges().is_some());
}

/// A kernel that does nothing.
const PTX: &[u8] = b".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry none()\n{\n    ret;\n}\n\0";

#[test]
fn kernels_need_the_calls_of_modules() {
    lacks(
        older("cuModuleLoadDataEx").device.load_module(PTX),
        "cuModuleLoadDataEx",
    );

    let bed = older("cuModuleGetFunction");
    let module = bed.device.load_module(PTX).unwrap();
    lacks(bed.device.function(module, c"none"), "cuModuleGetFunction");
    // SAFETY: nobody has run a kernel of it.
    unsafe { bed.device.unload_module(module) };
    bed.end();

    let bed = older("cuLaunchKernel");
    let module = bed.device.load_module(PTX).unwrap();
    let launch = Launch {
        function: bed.device.function(module, c"none").unwrap(),
        grid: [1; 3],
        block: [1; 3],
        shared_bytes: 0,
        params: &[],
    };
    let mut said = None;
    // SAFETY: the kernel touches nothing.
    let ticket = unsafe {
        bed.device.with_stream(Queue::COMPUTE, &[], &mut |stream| {
            said = Some(bed.device.launch(stream, &launch));
            false
        })
    };
    assert_eq!(ticket, Ok(None));
    lacks(said.unwrap(), "cuLaunchKernel");
    // SAFETY: as above.
    unsafe { bed.device.unload_module(module) };
    bed.end();
}

/// A module that cannot be unloaded stays, and so does nothing else.
#[test]
fn without_unloading_a_module_stays() {
    let bed = older("cuModuleUnload");
    let module = bed.device.load_module(PTX).unwrap();
    // SAFETY: nobody has run a kernel of it.
    unsafe { bed.device.unload_module(module) };
    bed.shut_down(&[]);
    let leaks = bed.world.leaks();
    assert!(leaks.len() == 1 && leaks[0].contains("module"), "{leaks:?}");
}

/// Between devices: directly, by the driver's own way around, or by the host where the driver cannot copy at all.
#[test]
fn copies_between_devices_find_another_way() {
    for (missing, direct) in [
        ("", true),
        ("cuDeviceCanAccessPeer", true),
        ("cuCtxEnablePeerAccess", true),
        ("cuMemcpyPeerAsync", false),
    ] {
        for peers in [false, true] {
            let machine = Machine::with(driver_without(&[missing]).unwrap(), 3, 2, peers);
            let pools: Vec<MemoryPool> = (machine.devices.iter())
                .map(|&device| MemoryPool::new_gpu(device, 8 << 20).unwrap())
                .collect();
            let holds: Vec<u32> = (0..5000).collect();
            let host = DynTensor::from_slice(&[holds.len()], &holds).unwrap();
            let first = host.to_pool(&pools[0]).unwrap();
            let second = first.to_pool(&pools[1]).unwrap();
            assert_eq!((second.dtype(), second.device()), (DType::U32, machine.devices[1]));
            let back = second.to_device(crate::Device::Cpu).unwrap();
            assert_eq!(back.to_vec::<u32>().unwrap(), holds, "without {missing}");
            assert_eq!(
                machine.world.calls().of("cuMemcpyPeerAsync") > 0,
                direct,
                "without {missing}"
            );
            drop((first, second, pools));
            assert_eq!(machine.end(false), Vec::<String>::new());
        }
    }
}

#[test]
fn codes_are_told_with_what_words_there_are() {
    let said = |missing: &[&str]| {
        let bed = Bed::with(driver_without(missing).unwrap(), 1);
        bed.world.fail_call("cuMemAlloc_v2", 999);
        let refusal = bed.device.allocate(64, SlabKind::Device).unwrap_err();
        bed.end();
        let Refusal::Call {
            call: "cuMemAlloc",
            code: 999,
            meaning,
        } = refusal
        else {
            panic!("{refusal:?}")
        };
        meaning
    };
    let (name, string) = ("cuGetErrorName", "cuGetErrorString");
    assert_eq!(said(&[]), "CUDA_ERROR_UNKNOWN, unknown error");
    assert_eq!(said(&[name]), "unknown error");
    assert_eq!(said(&[string]), "CUDA_ERROR_UNKNOWN");
    assert_eq!(said(&[name, string]), "code 999, which this driver has no words for");
}

/// Without the question whose a stream is, it is taken on trust.
#[test]
fn a_stream_is_taken_on_trust_where_nobody_can_be_asked() {
    let bed = older("cuStreamGetCtx");
    let context = bed.device.handles().context;
    let stream = stream_of(context);
    let queue = bed.open(stream).unwrap();
    assert_eq!(bed.world.calls().of("cuStreamGetCtx"), 0);
    bed.device.close_stream(queue);
    destroy(context, stream);
    bed.end();
}
