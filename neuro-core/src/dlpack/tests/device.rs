//! Memory of a device: out and in again, on the simulated one; and what strangers may do with an export.

use std::ptr;
use std::sync::Arc;

use super::*;
use crate::backend::sim::Sim;
use crate::device::Device;
use crate::pool::device::Engine;

struct There {
    pool: MemoryPool,
    sim: &'static Sim,
}

fn there(sim: Sim) -> There {
    let sim: &'static Sim = Box::leak(Box::new(sim));
    let pool = MemoryPool::of_engine(Arc::new(Engine::new(Device::Vulkan(6), sim)), 64 << 20);
    There { pool, sim }
}

fn host() -> MemoryPool {
    MemoryPool::unlimited()
}

/// The two structures, as tests use them.
trait Structure: Sized {
    fn export(tensor: &DynTensor) -> crate::Result<NonNull<Self>>;
    /// # Safety
    /// As [`import`].
    unsafe fn import(managed: NonNull<Self>) -> crate::Result<DynTensor>;
    fn tensor(&mut self) -> &mut DLTensor;
    fn set_deleter_to_a_strangers(&mut self);
    /// # Safety
    /// Owned, and not used afterwards.
    unsafe fn delete(managed: NonNull<Self>);
}

macro_rules! structure {
    ($type:ty, $export:ident, $import:ident) => {
        impl Structure for $type {
            fn export(tensor: &DynTensor) -> crate::Result<NonNull<Self>> {
                $export(tensor)
            }

            unsafe fn import(managed: NonNull<Self>) -> crate::Result<DynTensor> {
                // SAFETY: forwarded contract.
                unsafe { $import(managed) }
            }

            fn tensor(&mut self) -> &mut DLTensor {
                &mut self.dl_tensor
            }

            fn set_deleter_to_a_strangers(&mut self) {
                unsafe extern "C" fn strange(_: *mut $type) {
                    unreachable!("nobody took it");
                }
                self.deleter = Some(strange);
            }

            unsafe fn delete(managed: NonNull<Self>) {
                // SAFETY: forwarded contract; every export has a deleter.
                unsafe { managed.as_ref().deleter.unwrap()(managed.as_ptr()) };
            }
        }
    };
}

structure!(DLManagedTensor, export, import);
structure!(DLManagedTensorVersioned, export_versioned, import_versioned);

fn round_trip<S: Structure>(seed: u64) {
    let There { pool, sim } = there(Sim::new(seed));
    for salt in 0..64 {
        let near = view(&host(), &[4, 3, 2], salt);
        let whole = DynTensor::from_slice(&[4, 3, 2], &(0..24).collect::<Vec<i32>>()).unwrap();
        let far = view_of(whole.to_pool(&pool).unwrap(), salt);
        let exported = S::export(&far).unwrap();
        // SAFETY: just exported, and given to nobody else.
        unsafe {
            let described = (*exported.as_ptr()).tensor();
            assert_eq!(
                (described.device.device_type, described.device.device_id),
                (DL_VULKAN, 6)
            );
            assert_eq!(described.byte_offset, 0);
            let expected = if far.numel() == 0 { 0 } else { 256 };
            assert_eq!(described.data.addr(), expected, "nothing that could be followed");
        }
        assert_eq!(far.refcount(), 2);
        // SAFETY: as above.
        let back = unsafe { S::import(exported) }.unwrap();
        assert_eq!(far.refcount(), 2, "the export is gone, the tensor there");
        assert!(ptr::eq(&raw const **far.storage(), &raw const **back.storage()));
        assert!(!far.storage().is_exposed(), "nobody outside can reach it");
        assert_eq!(
            (back.device(), back.shape(), back.strides()),
            (Device::Vulkan(6), far.shape(), far.strides())
        );
        drop(far);
        // In order with all else, and read where it lies.
        assert_eq!(
            back.to_pool(&host()).unwrap().to_vec::<i32>().unwrap(),
            near.to_vec::<i32>().unwrap()
        );
        std::thread::spawn(move || drop(back)).join().unwrap();
        assert_eq!(pool.stats().live_blocks, 0);
    }
    assert_eq!(sim.findings(), [""; 0]);
}

/// Law: what is exported and imported again is the same storage, whatever view; nothing is copied, and the last handle frees it.
#[test]
fn round_trips_on_a_device() {
    round_trip::<DLManagedTensor>(1);
    round_trip::<DLManagedTensorVersioned>(2);
}

fn refusals<S: Structure>() {
    type Change<S> = fn(&mut S);
    let There { pool, sim } = there(Sim::new(3));
    let far = DynTensor::from_slice(&[2, 3], &[1i32; 6])
        .unwrap()
        .to_pool(&pool)
        .unwrap();
    let cases: &[(&str, Change<S>)] = &[
        ("device type 7 (Vulkan, id 6), and another library exported it", |s| {
            s.set_deleter_to_a_strangers()
        }),
        ("changed on its way", |s| s.tensor().device.device_id = 5),
        ("changed on its way", |s| {
            s.tensor().data = ptr::without_provenance_mut(512)
        }),
        ("changed on its way", |s| s.tensor().data = ptr::null_mut()),
        ("reaches outside the 24 B", |s| s.tensor().byte_offset = u64::MAX),
        ("reaches outside the 24 B", |s| s.tensor().byte_offset = 4),
        // SAFETY: an export has two lengths.
        ("reaches outside the 24 B", |s| unsafe { *s.tensor().shape = 3 }),
        ("is not aligned", |s| {
            s.tensor().byte_offset = 1;
            s.tensor().ndim = 1;
        }),
        ("is not known here", |s| s.tensor().dtype.lanes = 2),
        // Said to be of the host, and not: never followed.
        ("outside the address space", |s| {
            s.tensor().device = DLDevice {
                device_type: DL_CPU,
                device_id: 0,
            }
        }),
        ("changed on its way", |s| s.tensor().device.device_type = 2),
    ];
    for &(reason, change) in cases {
        let exported = S::export(&far).unwrap();
        // SAFETY: just exported, and given to nobody else: what a careless stranger could write, and then put right again.
        unsafe {
            let before = ptr::read(exported.as_ptr());
            let first = *(*exported.as_ptr()).tensor().shape;
            change(&mut *exported.as_ptr());
            let error = S::import(exported).unwrap_err();
            assert!(matches!(error, Error::Exchange { .. }), "{error}");
            assert!(error.to_string().contains(reason), "{reason}: {error}");
            assert_eq!(far.refcount(), 2, "nothing is consumed");
            ptr::write(exported.as_ptr(), before);
            *(*exported.as_ptr()).tensor().shape = first;
            S::delete(exported);
        }
        assert_eq!(far.refcount(), 1);
    }
    // Cut on its way, within what was there.
    let exported = S::export(&far).unwrap();
    // SAFETY: as above.
    let row = unsafe {
        let tensor = (*exported.as_ptr()).tensor();
        tensor.byte_offset = 12;
        *tensor.shape = 1;
        S::import(exported).unwrap()
    };
    assert_eq!(row.to_pool(&host()).unwrap().to_vec::<i32>().unwrap(), [1; 3]);
    assert_eq!(sim.findings(), [""; 0]);
}

#[test]
fn strangers_and_changed_exports_are_refused() {
    refusals::<DLManagedTensor>();
    refusals::<DLManagedTensorVersioned>();
}

/// What the processor reaches of a device is exported as what it is then: memory of the processor.
#[test]
fn mapped_memory_is_the_hosts() {
    let There { pool, sim } = there(Sim::new(4));
    sim.set_visible(true);
    let far = DynTensor::from_slice(&[1000], &[7i32; 1000])
        .unwrap()
        .to_pool(&pool)
        .unwrap();
    let mapped = far.map().unwrap();
    let exported = export(&mapped).unwrap();
    // SAFETY: just exported, and given to nobody else.
    let back = unsafe {
        check_exported(&exported.as_ref().dl_tensor, &mapped);
        import(exported).unwrap()
    };
    assert_eq!((back.device(), back.data_ptr()), (Device::Cpu, mapped.data_ptr()));
    drop((far, mapped));
    assert_eq!(pool.stats().live_blocks, 1, "the export keeps it");
    assert_eq!(back.to_vec::<i32>().unwrap(), [7; 1000]);
    drop(back);
    assert_eq!((pool.stats().live_blocks, sim.findings()), (0, vec![]));
}

/// Host memory as a device uses it is the device's, and what is exported of it comes back as that.
#[test]
fn memory_that_both_share_goes_as_the_devices() {
    let sim: &'static Sim = Box::leak(Box::new(Sim::sharing(5)));
    let engine = Arc::new(Engine::new(Device::Vulkan(6), sim));
    let near = MemoryPool::unlimited().with_gpu_support(true);
    let tensor = DynTensor::from_slice_in(&near, &[100], &[3i32; 100]).unwrap();
    let shared = tensor.shared_by(&engine).unwrap();
    let exported = export_versioned(&shared).unwrap();
    // SAFETY: just exported, and given to nobody else.
    let back = unsafe {
        assert_eq!(exported.as_ref().dl_tensor.data, export::NOT_AN_ADDRESS);
        import_versioned(exported).unwrap()
    };
    drop(shared);
    assert_eq!(back.to_device(Device::Cpu).unwrap().data_ptr(), tensor.data_ptr());
    assert_eq!(sim.findings(), [""; 0]);
}
