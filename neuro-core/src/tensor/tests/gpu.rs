//! Host pools with GPU support, on simulated devices: one that copies from host memory itself, and one whose memory is the host's.

use std::sync::Arc;
use std::time::Duration;

use super::device::host;
use super::*;
use crate::backend::Queue;
use crate::backend::host::STEP;
use crate::backend::sim::Sim;
use crate::error::Error;
use crate::pool::device::{Engine, Omission, without};

struct There {
    engine: Arc<Engine>,
    pool: MemoryPool,
    sim: &'static Sim,
}

fn there(sim: Sim) -> There {
    let sim: &'static Sim = Box::leak(Box::new(sim));
    let engine = Arc::new(Engine::new(Device::Vulkan(7), sim));
    let pool = MemoryPool::of_engine(Arc::clone(&engine), 64 << 20);
    There { engine, pool, sim }
}

fn near() -> MemoryPool {
    MemoryPool::unlimited().with_gpu_support(true)
}

fn numbers(pool: &MemoryPool, len: usize, salt: i32) -> (DynTensor, Vec<i32>) {
    let values: Vec<i32> = (0..len as i32).map(|at| at.wrapping_mul(17) ^ salt).collect();
    (DynTensor::from_slice_in(pool, &[len], &values).unwrap(), values)
}

/// Law: what comes back is what went, whatever part of which tensor, up and down, now or later; and nothing was staged.
#[test]
fn the_device_copies_from_where_it_lies() {
    for seed in 1..6 {
        let There { pool, sim, .. } = there(Sim::new(seed));
        let near = near();
        for (salt, len) in [1usize, 2, 15, 16, 17, 1000, 70_000, 600_000].into_iter().enumerate() {
            let (tensor, values) = numbers(&near, len, salt as i32);
            let part = tensor.slice(0, (len / 3) as isize, len as isize, 1).unwrap();
            let now = part.to_pool(&pool).unwrap();
            let later = part.to_pool_async(&pool).unwrap();
            drop((tensor, part));
            for there in [now, later.wait().unwrap()] {
                let back = there.to_pool(&near).unwrap();
                assert_eq!(back.to_vec::<i32>().unwrap(), values[len / 3..], "{len}");
                let back = there.to_pool_async(&near).unwrap().wait().unwrap();
                assert_eq!(back.to_vec::<i32>().unwrap(), values[len / 3..], "{len}");
            }
        }
        let imports = sim.calls().import;
        assert!((1..=12).contains(&imports), "one for each range of steps: {imports}");
        assert_eq!(sim.calls().allocate, 1, "the pool's slab, and no staging");
        assert_eq!(sim.findings(), [""; 0]);
    }
}

/// A device that shares memory has the same bytes, once, however often it is asked; and gives them back as they are.
#[test]
fn a_device_that_shares_memory_copies_nothing() {
    let There { engine, pool, sim } = there(Sim::sharing(3));
    let near = near();
    let (tensor, values) = numbers(&near, 5000, 1);
    let one = tensor.shared_by(&engine).unwrap();
    let two = tensor.slice(0, 16, 5000, 1).unwrap().shared_by(&engine).unwrap();
    assert_eq!((one.device(), one.data_ptr()), (Device::Vulkan(7), tensor.data_ptr()));
    assert_eq!(two.data_ptr(), tensor.data_ptr().wrapping_add(64));
    assert!(
        std::ptr::eq(one.storage.device_block().unwrap(), two.storage.device_block().unwrap()),
        "one face"
    );
    assert_eq!((sim.calls().submit, sim.calls().import), (0, 1));
    // What the device is at work on is waited for.
    let copy = one.to_pool(&pool).unwrap();
    assert!(sim.submitted(Queue::COMPUTE) > 0);
    let back = one.to_device(Device::Cpu).unwrap();
    assert_eq!((back.device(), back.data_ptr()), (Device::Cpu, tensor.data_ptr()));
    assert_eq!(back.to_vec::<i32>().unwrap(), values);
    let later = one.to_device_async(Device::Cpu).unwrap().wait().unwrap();
    assert_eq!(later.data_ptr(), tensor.data_ptr());
    assert_eq!(one.map().unwrap().data_ptr(), tensor.data_ptr());
    assert_eq!(copy.to_pool(&host()).unwrap().to_vec::<i32>().unwrap(), values);
    // Safe code cannot write one side while the other is there.
    let mut tensor = tensor;
    assert!(matches!(tensor.fill(Scalar::Int(1)), Err(Error::Shared { .. })));
    drop((one, two, back, later));
    tensor.fill(Scalar::Int(1)).unwrap();
    // What does not fit is copied.
    let view = tensor.reshape(&[50, 100]).unwrap().transpose();
    assert!(view.shared_by(&engine).is_none(), "not contiguous");
    assert!(
        tensor.slice(0, 1, 9, 1).unwrap().shared_by(&engine).is_none(),
        "begins where no kernel may"
    );
    assert!(
        numbers(&host(), 9, 1).0.shared_by(&engine).is_none(),
        "a pool without GPU support"
    );
    assert_eq!(sim.findings(), [""; 0]);
}

/// What the device has not written yet is waited for, wherever the processor gets the bytes from.
#[test]
fn the_processor_sees_what_the_device_wrote() {
    let look: [fn(&DynTensor) -> DynTensor; 4] = [
        |shared| shared.to_device(Device::Cpu).unwrap(),
        |shared| shared.map().unwrap(),
        |shared| shared.to_device_async(Device::Cpu).unwrap().wait().unwrap(),
        |shared| shared.to_pool(&host()).unwrap(),
    ];
    for seed in 1..10 {
        for look in look {
            let There { engine, pool, sim } = there(Sim::sharing(seed));
            let (tensor, _) = numbers(&near(), 3000, 1);
            let (other, values) = numbers(&host(), 3000, 2);
            let source = other.to_pool(&pool).unwrap();
            let shared = tensor.shared_by(&engine).unwrap();
            let blocks = [&source, &shared].map(|tensor| tensor.storage.device_block().unwrap());
            crate::transfer::copy(Queue::COMPUTE, blocks[0], 0, blocks[1], 12_000).unwrap();
            assert_eq!(look(&shared).to_vec::<i32>().unwrap(), values, "seed {seed}");
            assert_eq!(sim.findings(), [""; 0]);
        }
    }
}

/// A block that the device still uses is not handed out again when both sides have dropped it.
fn reused_too_early(seed: u64) -> bool {
    let There { engine, pool, .. } = there(Sim::sharing(seed));
    let near = near();
    let (tensor, values) = numbers(&near, 20_000, 1);
    let shared = tensor.shared_by(&engine).unwrap();
    let copy = shared.to_pool(&pool).unwrap();
    drop((tensor, shared));
    let next = numbers(&near, 20_000, 2); // writes
    let copied = copy.to_pool(&host()).unwrap().to_vec::<i32>().unwrap();
    drop(next);
    copied != values
}

#[test]
fn a_block_in_use_stays() {
    assert!(!(1..20).any(reused_too_early));
    assert!(
        (1..20).any(|seed| without(Omission::HostBlockInUse, || reused_too_early(seed))),
        "the omission is not found"
    );
}

/// A full pool waits for the device that has the rest of it, before it refuses.
#[test]
fn a_full_pool_waits_for_the_device() {
    let There { engine, pool, sim } = there(Sim::sharing(5));
    let near = MemoryPool::new(1 << 20).with_gpu_support(true);
    for salt in 0..6 {
        let (tensor, values) = numbers(&near, 200_000, salt);
        let copy = tensor.shared_by(&engine).unwrap().to_pool(&pool).unwrap();
        drop(tensor);
        assert_eq!(near.stats().live_blocks, 1, "in use on the device");
        let (next, _) = numbers(&near, 200_000, -salt);
        assert_eq!(copy.to_pool(&host()).unwrap().to_vec::<i32>().unwrap(), values);
        assert!(matches!(
            DynTensor::zeros_in(&near, None, &[200_000], DType::I32),
            Err(Error::OutOfMemory { .. })
        ));
        drop(next);
    }
    assert_eq!(sim.findings(), [""; 0]);
}

/// Memory that a device has imported does not go back by itself; `trim` gives up what no device uses.
#[test]
fn imported_memory_stays_until_it_is_trimmed() {
    let There { engine, pool, sim } = there(Sim::sharing(6));
    let near = near().with_decay(Some(Duration::from_millis(20)));
    let (kept, values) = numbers(&near, 3 * STEP / 4, 1);
    let shared = kept.shared_by(&engine).unwrap();
    let (gone, _) = numbers(&near, 5 * STEP / 4, 2);
    drop(gone.to_pool(&pool).unwrap());
    drop(gone);
    let before = near.stats().committed_bytes;
    assert_eq!(near.stats().pinned_bytes, 8 * STEP, "all of both");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(near.stats().committed_bytes, before, "decay leaves it");
    near.trim(0);
    MemoryPool::trim_all(0);
    assert_eq!(
        near.stats().committed_bytes,
        before,
        "one of it is in use on the device"
    );
    assert_eq!(sim.slabs(), 2, "the one in use, and the pool's");
    drop(shared);
    near.trim(0);
    assert!(near.stats().committed_bytes < before);
    assert_eq!((sim.slabs(), near.stats().pinned_bytes), (1, 0));
    assert_eq!(kept.to_vec::<i32>().unwrap(), values);
    // And again, from what the system gives now.
    let (again, values) = numbers(&near, 2 * STEP, 3);
    let back = again.to_pool(&pool).unwrap().to_pool(&near).unwrap();
    assert_eq!(back.to_vec::<i32>().unwrap(), values);
    drop((kept, again, back, near));
    assert_eq!(
        (sim.slabs(), sim.findings()),
        (1, vec![]),
        "a pool that goes takes its imports along"
    );
}

/// Under a limit, free memory of large blocks goes back for small ones; not what a device has imported.
#[test]
fn a_limit_takes_nothing_that_is_imported() {
    let There { pool, sim, .. } = there(Sim::new(12));
    let near = MemoryPool::new(8 * STEP).with_gpu_support(true);
    let (large, _) = numbers(&near, STEP, 1); // four steps
    drop(large.to_pool(&pool).unwrap());
    let place = large.data_ptr();
    drop(large);
    let imported = near.stats().committed_bytes;
    let small: Vec<_> = (0..8 * STEP / 1024 - 4096).map(|_| numbers(&near, 256, 2).0).collect();
    let taken = small.iter().map(DynTensor::nbytes).sum::<usize>();
    assert!(near.stats().committed_bytes >= imported + taken, "{:?}", near.stats());
    drop(small);
    let (again, values) = numbers(&near, STEP, 3);
    assert_eq!(again.data_ptr(), place);
    assert_eq!(
        again
            .to_pool(&pool)
            .unwrap()
            .to_pool(&near)
            .unwrap()
            .to_vec::<i32>()
            .unwrap(),
        values
    );
    assert_eq!(sim.findings(), [""; 0]);
}

/// What a clone of the pool was told later changes nothing about what is imported already.
#[test]
fn support_that_is_taken_back_takes_its_imports_along() {
    let There { pool, sim, .. } = there(Sim::new(13));
    let near = near();
    drop(numbers(&near, 5000, 1).0.to_pool(&pool).unwrap());
    assert_eq!(sim.slabs(), 2);
    let near = near.with_gpu_support(false);
    let (plain, values) = numbers(&near, 3 * STEP, 2);
    assert_eq!(
        plain
            .to_pool(&pool)
            .unwrap()
            .to_pool(&host())
            .unwrap()
            .to_vec::<i32>()
            .unwrap(),
        values
    );
    drop((plain, near));
    assert_eq!((sim.calls().import, sim.findings()), (1, vec![]));
    assert!(sim.slabs() <= 3, "the pool's and staging: {}", sim.slabs());
}

/// A block keeps its one face when its import is joined with a neighbour's.
#[test]
fn joined_imports_leave_faces_alone() {
    let There { engine, sim, .. } = there(Sim::sharing(14));
    let near = near();
    let (first, _) = numbers(&near, 3 * STEP / 8, 1); // a step and a half
    let (second, _) = numbers(&near, 3 * STEP / 8, 2);
    let one = first.shared_by(&engine).unwrap();
    let other = second.shared_by(&engine).unwrap(); // overlaps
    let two = first.shared_by(&engine).unwrap();
    let block = |tensor: &DynTensor| std::ptr::from_ref(tensor.storage.device_block().unwrap());
    assert_eq!(block(&one), block(&two));
    drop((one, two, other));
    let again = first.shared_by(&engine).unwrap();
    assert_eq!(again.data_ptr(), first.data_ptr());
    drop((again, first, second, near));
    assert_eq!((sim.slabs(), sim.findings()), (0, vec![]));
}

#[test]
fn zeros_are_zeros_in_memory_that_is_imported() {
    let There { pool, sim, .. } = there(Sim::new(7));
    let near = MemoryPool::new(256 << 20).with_gpu_support(true);
    let len = 40 << 20; // long enough for pages to be exchanged instead of written
    let ones = DynTensor::full_in(&near, None, &[len], DType::U8, Scalar::Int(1)).unwrap();
    drop(ones.slice(0, 0, 4 << 20, 1).unwrap().to_pool(&pool).unwrap());
    let place = ones.data_ptr();
    drop(ones);
    let zeros = DynTensor::zeros_in(&near, None, &[len], DType::U8).unwrap();
    assert_eq!(zeros.data_ptr(), place);
    let seen = zeros.slice(0, 0, 4 << 20, 1).unwrap().to_pool(&pool).unwrap();
    assert!(
        seen.to_pool(&host())
            .unwrap()
            .to_vec::<u8>()
            .unwrap()
            .iter()
            .all(|&byte| byte == 0)
    );
    assert_eq!((sim.findings(), sim.calls().import), (vec![], 1));
}

/// A device that refuses: the copy is staged, and the reason can be read.
#[test]
fn a_refused_import_is_no_error() {
    let There { engine, pool, sim } = there(Sim::new(8));
    let near = near();
    let (tensor, values) = numbers(&near, 5000, 1);
    drop(numbers(&host(), 9, 1).0.to_pool(&pool).unwrap()); // opens what staging needs
    sim.fail_nth(1);
    let there = tensor.to_pool(&pool).unwrap();
    assert_eq!(there.to_pool(&host()).unwrap().to_vec::<i32>().unwrap(), values);
    let why = engine.import_refused().unwrap();
    assert!(
        why.contains("import_host") && why.contains("a failure that a test asked for"),
        "{why}"
    );
    assert_eq!((sim.findings(), sim.calls().import), (vec![], 0));
    assert!(near.trim(0) < usize::MAX, "the region is not pinned for ever");
    drop((tensor, there));
    assert!(near.trim(0) > 0);
}

#[test]
fn pools_say_which_devices_reach_them() {
    let plain = MemoryPool::unlimited().gpu_support().unwrap_err();
    assert!(plain.contains("with_gpu_support(true)"), "{plain}");
    let there = there(Sim::new(9)).pool.gpu_support().unwrap_err();
    assert!(there.contains("vulkan:7"), "{there}");
    // Whatever this machine has: devices, or a reason.
    match near().gpu_support() {
        Ok(devices) => assert!(!devices.is_empty()),
        Err(why) => assert!(why.contains("vulkan"), "{why}"),
    }
}

/// Imports are joined where blocks overlap, and many threads may ask at once.
#[test]
fn many_threads_import_at_once() {
    let There { engine, pool, sim } = there(Sim::sharing(10));
    let near = near();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (near, pool, engine) = (&near, &pool, &engine);
            scope.spawn(move || {
                for round in 0..30 {
                    let (tensor, values) = numbers(near, 1 + (thread * 7919 + round * 104_729) % 900_000, round as i32);
                    let copy = match tensor.shared_by(engine) {
                        Some(shared) if round % 2 == 0 => shared.to_pool(pool).unwrap(),
                        _ => tensor.to_pool(pool).unwrap(),
                    };
                    drop(tensor);
                    if round % 10 == thread {
                        near.trim(0);
                    }
                    assert!(copy.to_pool(near).unwrap().to_vec::<i32>().unwrap() == values);
                }
            });
        }
    });
    engine.finish_kept();
    drop(near);
    assert_eq!(sim.findings(), [""; 0]);
    assert_eq!((sim.slabs(), pool.stats().live_blocks), (1, 0));
}
