//! Memory that goes from device to device by file descriptor: B11 between two, tensors on both sides, devices of the program, and what is
//! refused.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use ash::vk;

use super::adopt::{adopt, open_with};
use super::*;
use crate::backend::contract::{b11_between, like};
use crate::pool::device::{Engine, SharedBlock};
use crate::{DType, Device, DynTensor, Error, Exported, MemoryPool};

const GPU: Device = Device::Vulkan(0);

/// Runs `test` on the device, if there is one and it has what this is about.
fn sharing(test: impl FnOnce(&VulkanDevice)) {
    watched(|device| {
        if device.facts().identity.is_some() {
            return test(device);
        }
        assert!(
            std::env::var_os("NEURO_REQUIRE_VULKAN").is_none(),
            "no VK_KHR_external_memory_fd"
        );
        crate::backend::host::os::say(
            "\nSKIPPED: memory by file descriptor: the device has no VK_KHR_external_memory_fd\n",
        );
    });
}

/// A device of its own, whose slabs nobody else counts.
fn alone() -> (Arc<Engine>, &'static VulkanDevice) {
    let device: &'static VulkanDevice = Box::leak(Box::new(VulkanDevice::make(0).unwrap()));
    (Arc::new(Engine::new(GPU, device)), device)
}

fn exporting(engine: &Arc<Engine>) -> MemoryPool {
    MemoryPool::of_engine(Arc::clone(engine), 8 << 20).with_export(true)
}

fn values(salt: u32) -> Vec<u32> {
    (0..5000u32).map(|at| at.wrapping_mul(0x9E37_79B9) ^ salt).collect()
}

fn back(tensor: &DynTensor) -> Vec<u32> {
    let host = tensor.to_device(Device::Cpu).unwrap();
    host.to_vec::<u32>().unwrap()
}

fn import(exported: &Exported) -> crate::Result<DynTensor> {
    // SAFETY: tests export what they import, order both sides, or have it refused.
    unsafe { DynTensor::import_fd(GPU, exported) }
}

#[test]
fn two_devices_share_what_one_exports() {
    sharing(|_| {
        let [one, other] = [(); 2].map(|()| VulkanDevice::make(0).unwrap());
        b11_between(&one, &other);
        b11_between(&other, &one);
    });
}

#[test]
fn tensors_on_both_sides_are_the_same_bytes() {
    sharing(|_| {
        let (engine, _) = alone();
        let pool = exporting(&engine);
        let _before = DynTensor::from_slice_in(&pool, &[10], &[1u8; 10]).unwrap();
        let here = DynTensor::from_slice_in(&pool, &[50, 100], &values(1)).unwrap();
        let exported = here.export_fd().unwrap();
        assert_eq!(
            (exported.bytes, exported.dtype, &exported.shape[..]),
            (20_000, DType::U32, &[50, 100][..])
        );
        assert!(exported.offset >= 256 && exported.allocation_bytes >= 8 << 20);
        let there = import(&exported).unwrap();
        assert_eq!((there.device(), there.shape()), (GPU, &[50, 100][..]));
        assert!(!there.storage().is_pooled() && there.storage().is_exposed() && here.storage().is_exposed());
        assert_eq!(back(&there), values(1));
        // A part of it is another tensor, in the same memory.
        let rows = here.slice(0, 10, 20, 1).unwrap().export_fd().unwrap();
        assert_eq!((rows.offset, rows.bytes), (exported.offset + 4000, 4000));
        let rows = import(&rows).unwrap();
        assert_eq!(back(&rows), values(1)[1000..2000]);
        drop(exported);
        // What one side wrote, and has waited for, the other sees.
        let block = there.storage().device_block().unwrap();
        crate::transfer::upload(bytes_of_words(&values(2)), block).unwrap();
        there.synchronize().unwrap();
        assert_eq!(back(&here), values(2));
        assert_eq!(back(&rows), values(2)[1000..2000]);
        // It stays when those who made it are gone.
        drop((here, _before));
        assert!(pool.trim(0) > 0);
        drop(pool);
        assert_eq!(back(&there), values(2));
        drop(there);
        assert_eq!(back(&rows), values(2)[1000..2000]);
    });
}

fn bytes_of_words(words: &[u32]) -> &[u8] {
    // SAFETY: words are bytes.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len() * 4) }
}

#[test]
fn imported_memory_goes_with_its_last_tensor() {
    sharing(|_| {
        let ((near, _), (far, device)) = (alone(), alone());
        let here = DynTensor::from_slice_in(&exporting(&near), &[5000], &values(3)).unwrap();
        let exported = here.export_fd().unwrap();
        let descriptors = like(&exported.fd);
        let pool = MemoryPool::of_engine(Arc::clone(&far), 8 << 20);
        drop(DynTensor::from_slice_in(&pool, &[5000], &values(0)).unwrap());
        let slabs = device.slabs.count();
        for _ in 0..3 {
            let fd = exported.fd.as_fd();
            // SAFETY: what was just exported.
            let block = unsafe { SharedBlock::import(&far, fd, exported.allocation_bytes, exported.offset, 20_000) };
            let block = block.unwrap();
            assert_eq!(device.slabs.count(), slabs + 1);
            // It goes while work on it is under way, and stays until that is done.
            let to = pool.device_pool().unwrap().allocate(20_000, 1, Queue::COMPUTE).unwrap();
            crate::transfer::copy(Queue::COMPUTE, &block, 0, &to, 20_000).unwrap();
            drop(block);
            let mut copied = vec![0u8; 20_000];
            crate::transfer::download(&to, 0, &mut copied).unwrap();
            assert_eq!(copied, bytes_of_words(&values(3)));
            far.poll().unwrap();
            assert_eq!(device.slabs.count(), slabs);
        }
        assert_eq!(like(&exported.fd), descriptors);
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    sharing(|_| {
        let (engine, _) = alone();
        let here = DynTensor::from_slice_in(&exporting(&engine), &[5000], &values(4)).unwrap();
        let good = || here.export_fd().unwrap();
        let refused = |change: &dyn Fn(&mut Exported), word: &str| {
            let mut exported = good();
            let descriptors = like(&exported.fd);
            change(&mut exported);
            let error = import(&exported).unwrap_err();
            let text = error.to_string();
            assert!(
                matches!(error, Error::InvalidArgument { .. }) && text.contains(word),
                "{text}"
            );
            drop(exported);
            assert_eq!(like(&good().fd), descriptors);
        };
        refused(&|e| e.device_uuid[0] ^= 1, "device with uuid");
        refused(&|e| e.driver_uuid[15] ^= 1, "driver with uuid");
        refused(&|e| e.shape = vec![4999], "19996 B");
        refused(&|e| e.bytes = u64::MAX, "18446744073709551615 B");
        refused(&|e| e.offset = u64::MAX - 100, "do not lie within");
        refused(&|e| e.offset = e.allocation_bytes - 19_996, "do not lie within");
        refused(&|e| e.allocation_bytes = 100, "do not lie within");
        refused(&|e| e.offset += 2, "not aligned");
        let mut exported = good();
        exported.shape = vec![usize::MAX, 3];
        assert!(matches!(import(&exported), Err(Error::SizeOverflow { .. })));
        // SAFETY: refused.
        let error = unsafe { DynTensor::import_fd(Device::Cpu, &exported) }.unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
        // SAFETY: refused.
        let error = unsafe { DynTensor::import_fd(Device::Vulkan(99), &exported) }.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        // The driver says what is no memory.
        exported = good();
        for file in [tempfile::tempfile().unwrap(), File::open("/dev/null").unwrap()] {
            exported.fd = file.into();
            let error = import(&exported).unwrap_err();
            assert!(matches!(error, Error::Driver { device: GPU, .. }), "{error}");
        }
        let file = tempfile::tempfile().unwrap();
        exported.fd = file.try_clone().unwrap().into();
        assert!(import(&exported).is_err());
        drop(exported);
        assert_eq!(like(&file), 1);
        assert_eq!(back(&import(&good()).unwrap()), values(4), "all goes on");
    });
}

#[test]
fn only_memory_that_was_made_for_it_is_exported() {
    sharing(|_| {
        let (engine, _) = alone();
        let refused = |tensor: &DynTensor, word: &str| {
            let text = tensor.export_fd().unwrap_err().to_string();
            assert!(text.contains(word), "{text}");
        };
        let plain = MemoryPool::of_engine(Arc::clone(&engine), 8 << 20);
        let early = DynTensor::from_slice_in(&plain, &[5000], &values(5)).unwrap();
        refused(&early, "with_export(true)");
        let _late = plain.with_export(true);
        refused(&early, "not made to be exported");
        refused(&DynTensor::zeros(&[3], DType::F32).unwrap(), "lies on cpu");
        let here = DynTensor::from_slice_in(&exporting(&engine), &[50, 100], &values(5)).unwrap();
        let error = here.transpose().export_fd().unwrap_err();
        assert!(matches!(error, Error::NotContiguous { .. }), "{error}");
        let there = import(&here.export_fd().unwrap()).unwrap();
        refused(&there, "not made to be exported");
    });
}

#[test]
fn devices_of_the_program_share_what_they_have_switched_on() {
    sharing(|_| {
        let version = vk::API_VERSION_1_2;
        let without = adopt(open_with(version, &[]).to_adopt(version, None)).unwrap();
        let pool = MemoryPool::new_gpu(without, 1 << 20).unwrap().with_export(true);
        let error = DynTensor::zeros_in(&pool, None, &[3], DType::F32).unwrap_err();
        assert!(error.to_string().contains("VK_KHR_external_memory_fd"), "{error}");

        let with = adopt(open_with(version, &[ash::khr::external_memory_fd::NAME]).to_adopt(version, None)).unwrap();
        let pool = MemoryPool::new_gpu(with, 1 << 20).unwrap().with_export(true);
        let here = DynTensor::from_slice_in(&pool, &[5000], &values(6)).unwrap();
        let exported = here.export_fd().unwrap();
        assert_eq!(back(&import(&exported).unwrap()), values(6));
        // SAFETY: refused.
        let error = unsafe { DynTensor::import_fd(without, &exported) }.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    });
}
