//! How a process ends that has used a device: with an explicit shutdown or without, with work under way and tensors alive. Each way is
//! a process of its own, under the validation layer where it is installed, which then says what was left behind.

#![cfg(feature = "vulkan")]

use std::process::{Command, Stdio};

use neuro_core::{DType, Device, DynTensor, Error, MemoryPool, Transfer, shutdown};

const GPU: Device = Device::Vulkan(0);
/// Says to a test that it is in a process of its own.
const ALONE: &str = "NEURO_TEST_VULKAN_END";

fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// On the real standard error, which no test runner holds back: a skip must not look like a pass.
fn skipped(test: &str, why: &str) {
    let text = format!("\nSKIPPED: {test}: {why}\n");
    std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
}

/// Whether there is a device to test on.
fn there_is_one(test: &str) -> bool {
    let Err(error) = MemoryPool::of_device(GPU) else {
        return true;
    };
    assert!(std::env::var_os("NEURO_REQUIRE_VULKAN").is_none(), "{error}");
    skipped(test, &error.to_string());
    false
}

/// Runs the test of this name in a process of its own, `times` times. Without a device it says SKIPPED.
fn alone(test: &str, times: usize) {
    if !there_is_one(test) {
        return;
    }
    for _ in 0..times {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", test])
            .env(ALONE, "1")
            .env("VK_INSTANCE_LAYERS", "VK_LAYER_KHRONOS_validation")
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        let said = said.concat();
        assert!(output.status.success(), "{:?}: {said}", output.status);
        assert!(!said.contains("VUID") && !said.contains("Validation"), "{said}");
    }
}

fn values(len: usize) -> Vec<u32> {
    (0..len as u32).map(|at| at.wrapping_mul(0x9E37_79B9)).collect()
}

/// Tensors of every kind, and transfers that nobody waits for.
fn a_lot() -> (Vec<DynTensor>, Vec<Transfer>) {
    let near = MemoryPool::unlimited().with_gpu_support(true);
    let mut tensors = Vec::new();
    let mut transfers = Vec::new();
    for len in [1, 1000, 100_000, 2 << 20] {
        let here = DynTensor::from_slice(&[len], &values(len)).unwrap();
        let there = here.to_device(GPU).unwrap();
        let close = DynTensor::from_slice_in(&near, &[len], &values(len)).unwrap();
        tensors.extend([close.to_device(GPU).unwrap(), there.to_device(GPU).unwrap(), close]);
        transfers.push(here.to_device_async(GPU).unwrap());
        transfers.push(there.to_device_async(Device::Cpu).unwrap());
        drop(there.to_pool(&MemoryPool::of_device(GPU).unwrap()).unwrap()); // in flight
        drop(here.to_device_async(GPU).unwrap());
    }
    (tensors, transfers)
}

#[test]
fn everything_is_given_back_and_refused_from_then_on() {
    if !is_alone() {
        return alone("everything_is_given_back_and_refused_from_then_on", 3);
    }
    let (tensors, transfers) = a_lot();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            // At work when it comes, each stops with an error.
            std::thread::spawn(|| {
                let here = DynTensor::from_slice(&[300_000], &values(300_000)).unwrap();
                loop {
                    let there = here.to_device(GPU).and_then(|there| there.to_device(Device::Cpu));
                    match there {
                        Ok(back) => assert!(back.to_vec::<u32>().unwrap() == values(300_000)),
                        Err(error) => return error,
                    }
                }
            })
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(30));
    shutdown();
    shutdown();
    for thread in threads {
        let error = thread.join().unwrap();
        assert!(error.to_string().contains("shut down"), "{error}");
    }
    for transfer in &transfers {
        match transfer.wait() {
            Ok(tensor) if tensor.device() == Device::Cpu => {
                assert!(tensor.to_vec::<u32>().unwrap() == values(tensor.numel()))
            }
            Ok(tensor) => assert_eq!(tensor.device(), GPU),
            Err(error) => assert!(error.to_string().contains("shut down"), "{error}"),
        }
    }
    let there = &tensors[1];
    let refused = [
        there.to_pool(MemoryPool::global()).map(drop),
        there.map().map(drop),
        there
            .to_device_async(Device::Cpu)
            .and_then(|transfer| transfer.wait())
            .map(drop),
        DynTensor::zeros_on(GPU, &[4], DType::F32).map(drop),
        MemoryPool::new_gpu(GPU, 1 << 20)
            .and_then(|pool| DynTensor::zeros_in(&pool, None, &[4], DType::F32))
            .map(drop),
    ];
    for (at, refused) in refused.into_iter().enumerate() {
        let Err(error) = refused else { panic!("{at} works") };
        assert!(error.to_string().contains("shut down"), "{at}: {error}");
        assert!(
            matches!(error, Error::DeviceLost { .. } | Error::Unavailable { .. }),
            "{at}: {error}"
        );
    }
    assert!(neuro_core::devices().devices.is_empty());
    // What is the host's stays.
    assert_eq!(tensors[2].to_vec::<u32>().unwrap(), values(1));
    there.synchronize().unwrap();
    if tensors[0].data_ptr() == tensors[2].data_ptr() {
        assert_eq!(
            tensors[0].to_device(Device::Cpu).unwrap().to_vec::<u32>().unwrap(),
            values(1)
        );
    }
    drop((tensors, transfers));
    MemoryPool::trim_all(0);
}

/// A view into device memory outlives the shutdown.
#[test]
fn what_the_host_looks_into_stays() {
    if !is_alone() {
        return alone_but_for_what_is_kept();
    }
    let there = DynTensor::from_slice(&[5000], &values(5000))
        .unwrap()
        .to_device(GPU)
        .unwrap();
    let view = there.map();
    drop(there);
    shutdown();
    match view {
        Ok(view) => assert_eq!(view.to_vec::<u32>().unwrap(), values(5000)),
        Err(error) => skipped(
            "what_the_host_looks_into_stays",
            &format!("needs hardware that the host looks into: {error}"),
        ),
    }
}

fn alone_but_for_what_is_kept() {
    if !there_is_one("what_the_host_looks_into_stays") {
        return;
    }
    // The layer would name what is kept. Standard error is shared, so that a skip is seen.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "what_the_host_looks_into_stays"])
        .env(ALONE, "1")
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_process_ends_with_all_it_has() {
    if !is_alone() {
        return alone("a_process_ends_with_all_it_has", 10);
    }
    std::mem::forget(a_lot());
    std::thread::spawn(|| {
        loop {
            drop(a_lot());
        }
    });
    std::thread::sleep(std::time::Duration::from_millis(20));
    std::process::exit(0);
}
