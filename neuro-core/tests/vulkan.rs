//! Tensors on a real Vulkan device, through the public interface alone: there and back, from many threads, within a limit, and what
//! a process leaves behind. Without a device it says SKIPPED, which NEURO_REQUIRE_VULKAN makes a failure.

#![cfg(feature = "vulkan")]

use neuro_core::{DType, Device, DynTensor, Error, MemoryPool, Scalar};

const GPU: Device = Device::Vulkan(0);

/// Whether there is a device to test on.
fn there_is_one(test: &str) -> bool {
    let Err(error) = MemoryPool::of_device(GPU) else {
        return true;
    };
    assert!(std::env::var_os("NEURO_REQUIRE_VULKAN").is_none(), "{error}");
    skipped(test, &error.to_string());
    false
}

/// On the real standard error, which no test runner holds back: a skip must not look like a pass.
fn skipped(test: &str, why: &str) {
    let text = format!("\nSKIPPED: {test}: {why}\n");
    std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
}

fn pattern(len: usize, salt: u32) -> Vec<u32> {
    (0..len as u32).map(|at| at.wrapping_mul(0x9E37_79B9) ^ salt).collect()
}

#[test]
fn what_goes_there_comes_back() {
    if !there_is_one("what_goes_there_comes_back") {
        return;
    }
    // Up to beyond what the staging ring holds.
    for len in [0, 1, 63, 1 << 10, (1 << 20) + 1, 6 << 20] {
        let values = pattern(len, 7);
        let there = DynTensor::from_slice(&[len], &values).unwrap().to_device(GPU).unwrap();
        assert_eq!((there.device(), there.shape()), (GPU, &[len][..]));
        let across = there.to_pool(&MemoryPool::of_device(GPU).unwrap()).unwrap();
        drop(there);
        assert!(
            across.to_device(Device::Cpu).unwrap().to_vec::<u32>().unwrap() == values,
            "{len}"
        );
    }
    let zeros = DynTensor::zeros_on(GPU, &[1000, 3], DType::F64).unwrap();
    assert_eq!(
        zeros.to_device(Device::Cpu).unwrap().to_vec::<f64>().unwrap(),
        vec![0.0; 3000]
    );
}

/// A pool keeps its limit, its blocks are used again, and it gives its memory back.
#[test]
fn a_pool_within_its_limit() {
    if !there_is_one("a_pool_within_its_limit") {
        return;
    }
    let pool = MemoryPool::new_gpu(GPU, 64 << 20).unwrap();
    let one = || DynTensor::full_in(&pool, None, &[4 << 20], DType::F32, Scalar::Float(1.5));
    let all: Vec<_> = (0..4).map(|_| one().unwrap()).collect();
    let error = one().unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { device: GPU, .. }), "{error}");
    drop(all);
    for _ in 0..20 {
        drop(one().unwrap());
    }
    let stats = pool.stats();
    assert_eq!(
        (stats.live_bytes, stats.peak_bytes, stats.committed_bytes),
        (0, 64 << 20, 64 << 20)
    );
    assert!(pool.trim(0) > 0);
    assert_eq!(pool.stats().committed_bytes, 0);
}

/// Many threads make, move and drop tensors; all contents are checked, and nothing is live at the end.
#[test]
fn a_hundred_threads() {
    if !there_is_one("a_hundred_threads") {
        return;
    }
    let pool = MemoryPool::new_gpu(GPU, 256 << 20).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..100u32 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..10 {
                    let values = pattern(1 + (thread as usize * 131 + round * 977) % 20_000, thread);
                    let there = DynTensor::from_slice_in(pool, &[values.len()], &values).unwrap();
                    let copy = there.to_pool(pool).unwrap();
                    drop(there);
                    let back = copy.to_device(Device::Cpu).unwrap();
                    assert!(back.to_vec::<u32>().unwrap() == values, "{thread} {round}");
                }
            });
        }
    });
    assert_eq!(pool.stats().live_blocks, 0);
}

/// Tensors that nobody waits for arrive; source and result may go meanwhile.
#[test]
fn transfers_while_the_caller_goes_on() {
    if !there_is_one("transfers_while_the_caller_goes_on") {
        return;
    }
    let sent: Vec<_> = (0..30).map(|salt| pattern(1 + salt as usize * 40_009, salt)).collect();
    let up: Vec<_> = sent
        .iter()
        .map(|values| {
            DynTensor::from_slice(&[values.len()], values)
                .unwrap()
                .to_device_async(GPU)
                .unwrap()
        })
        .collect();
    let down: Vec<_> = up
        .iter()
        .map(|up| up.wait().unwrap().to_device_async(Device::Cpu).unwrap())
        .collect();
    for (down, values) in down.iter().zip(&sent) {
        assert!(down.wait().unwrap().to_vec::<u32>().unwrap() == *values);
    }
}

/// Memory of a pool with GPU support is the device's without a copy, where it shares the host's memory; else the device copies it.
#[test]
fn host_memory_that_the_device_reaches() {
    if !there_is_one("host_memory_that_the_device_reaches") {
        return;
    }
    let near = MemoryPool::new(64 << 20).with_gpu_support(true);
    let kind = neuro_core::devices().devices[0].kind;
    let devices = match near.gpu_support() {
        Ok(devices) => devices,
        // The software device can, so there it is a failure.
        Err(why) => {
            assert_ne!(kind, "software", "{why}");
            skipped(
                "host_memory_that_the_device_reaches",
                &format!("needs hardware whose driver can: {why}"),
            );
            return;
        }
    };
    assert_eq!(devices, [GPU]);
    let shares = matches!(kind, "software" | "integrated");
    for len in [1, 100, 70_000, 3 << 20] {
        let values = pattern(len, 9);
        let tensor = DynTensor::from_slice_in(&near, &[len], &values).unwrap();
        let there = tensor.to_device(GPU).unwrap();
        assert_eq!((there.device(), there.data_ptr() == tensor.data_ptr()), (GPU, shares));
        let copy = there.to_pool(&MemoryPool::of_device(GPU).unwrap()).unwrap();
        drop((tensor, there));
        assert!(copy.to_pool(&near).unwrap().to_vec::<u32>().unwrap() == values, "{len}");
        if let Ok(view) = copy.map() {
            assert_eq!(view.device(), Device::Cpu);
            assert!(view.to_vec::<u32>().unwrap() == values, "{len}");
        }
    }
    assert!(near.trim(0) > 0);
    assert_eq!(near.stats().committed_bytes, 0);
}

/// A forked child refuses devices, and its drops do nothing; the parent goes on.
#[test]
fn a_forked_child_keeps_away() {
    if !there_is_one("a_forked_child_keeps_away") {
        return;
    }
    let there = DynTensor::zeros_on(GPU, &[100], DType::U8).unwrap();
    // SAFETY: the child only calls what is tested, and leaves without unwinding.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = there.to_device(Device::Cpu).is_err();
        drop(there);
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: our child, and a place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!(there.to_device(Device::Cpu).unwrap().to_vec::<u8>().unwrap(), [0; 100]);
}
