//! Which devices there are, and what each can do. The order is the driver's: the ordinals of `Device::Cuda(n)`.

use std::ffi::CStr;

use super::driver::{Code, DeviceNumber, Driver};
use super::{loader, range, refuse};
use crate::backend::info::{DeviceInfo, HeapInfo};
use crate::backend::{Facts, life};
use crate::device::Device;

/// Numbers of `CUdevice_attribute`.
mod attribute {
    pub(super) const INTEGRATED: u32 = 18;
    pub(super) const COMPUTE_MODE: u32 = 20;
    pub(super) const UNIFIED_ADDRESSING: u32 = 41;
    pub(super) const MAJOR: u32 = 75;
    pub(super) const MINOR: u32 = 76;
    pub(super) const HOST_POINTER_IS_DEVICE_POINTER: u32 = 91;
    pub(super) const VIRTUAL_MEMORY_MANAGEMENT: u32 = 102;
}

/// `CU_COMPUTEMODE_PROHIBITED`.
const PROHIBITED: i32 = 2;
/// What page-locked memory begins on: a page of the host.
const PAGE: u64 = 4096;

/// A device that the driver lists.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) number: DeviceNumber,
    pub(super) name: String,
    pub(super) facts: Facts,
    pub(super) granularity: Option<u64>,
    pub(super) capability: (u32, u32),
    pub(super) driver_version: u32,
    pub(super) unusable: Option<String>,
    uuid: [u8; 16],
    ordinal: u32,
}

/// The devices of this machine.
///
/// # Errors
/// Why there is no driver.
pub(crate) fn devices() -> Result<Vec<DeviceInfo>, String> {
    let _inside = life::enter()?;
    let driver = loader::driver()?;
    let all = 0..count(driver)?;
    all.map(|ordinal| one(driver, ordinal).map(Found::into_info)).collect()
}

pub(super) fn count(driver: &Driver) -> Result<u32, String> {
    let mut count = 0;
    // SAFETY: there is room for the answer.
    let code = unsafe { (driver.device_count)(&mut count) };
    said(driver, "cuDeviceGetCount", code)?;
    Ok(count.unsigned_abs())
}

fn said(driver: &Driver, call: &str, code: Code) -> Result<(), String> {
    if code == refuse::SUCCESS {
        return Ok(());
    }
    Err(format!("{call}: {}", refuse::words(driver, code)))
}

/// The device of this ordinal.
///
/// # Errors
/// How many there are, or what the driver said.
pub(super) fn one(driver: &Driver, ordinal: u32) -> Result<Found, String> {
    let count = count(driver)?;
    if ordinal >= count {
        return Err(format!("the CUDA driver lists {count} devices, counted from 0"));
    }
    let mut number = 0;
    // SAFETY: there is room for the answer.
    let code = unsafe { (driver.device_get)(&mut number, ordinal.cast_signed()) };
    said(driver, "cuDeviceGet", code)?;
    let mut name = [0; 256];
    // SAFETY: as many bytes as it is told.
    let code = unsafe { (driver.device_name)(name.as_mut_ptr(), name.len() as i32, number) };
    said(driver, "cuDeviceGetName", code)?;
    let name = CStr::from_bytes_until_nul(&name.map(|byte| byte as u8))
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut bytes = 0;
    // SAFETY: there is room for the answer.
    let code = unsafe { (driver.device_memory)(&mut bytes, number) };
    said(driver, "cuDeviceTotalMem", code)?;
    let mut version = 0;
    // SAFETY: as above.
    let code = unsafe { (driver.driver_version)(&mut version) };
    said(driver, "cuDriverGetVersion", code)?;
    let mut uuid = [0; 16];
    if let Some(uuid_of) = driver.device_uuid {
        // SAFETY: as above. One that cannot be had stays zeros.
        let _ = unsafe { uuid_of(&mut uuid, number) };
    }
    // An attribute that this driver does not know is 0.
    let attribute = |which: u32| {
        let mut value = 0;
        // SAFETY: as above.
        let code = unsafe { (driver.device_attribute)(&mut value, which, number) };
        if code == refuse::SUCCESS { value } else { 0 }
    };
    let is = |which| attribute(which) != 0;
    let unusable = if !is(attribute::UNIFIED_ADDRESSING) {
        Some("it has no unified addresses".to_owned())
    } else if attribute(attribute::COMPUTE_MODE) == PROHIBITED {
        Some("its compute mode is set to prohibited (nvidia-smi -c 0 allows it)".to_owned())
    } else {
        None
    };
    let locks_pages = driver.host_register.is_some()
        && driver.host_unregister.is_some()
        && is(attribute::HOST_POINTER_IS_DEVICE_POINTER);
    let bytes = bytes as u64;
    Ok(Found {
        number,
        name,
        ordinal,
        facts: Facts {
            alignment: 256,
            max_slab_bytes: bytes,
            longest_by: "the memory of the device",
            memory_bytes: bytes,
            import_alignment: locks_pages.then_some(PAGE),
            shares_memory: is(attribute::INTEGRATED),
            bind_alignment: 16,
            identity: None,
        },
        granularity: is(attribute::VIRTUAL_MEMORY_MANAGEMENT)
            .then(|| range::granularity(driver, number))
            .flatten(),
        capability: (
            attribute(attribute::MAJOR).unsigned_abs(),
            attribute(attribute::MINOR).unsigned_abs(),
        ),
        driver_version: version.unsigned_abs(),
        unusable,
        uuid,
    })
}

impl Found {
    fn into_info(self) -> DeviceInfo {
        let version = |number: u32| format!("{}.{}", number / 1000, number % 1000 / 10);
        let bytes = self.facts.memory_bytes;
        DeviceInfo {
            device: Device::Cuda(self.ordinal),
            name: self.name,
            kind: if self.facts.shares_memory {
                "integrated"
            } else {
                "discrete"
            },
            driver: format!("NVIDIA, for CUDA up to {}", version(self.driver_version)),
            api: format!("compute capability {}.{}", self.capability.0, self.capability.1),
            uuid: self.uuid,
            heaps: vec![HeapInfo {
                bytes,
                device_local: true,
                budget: None,
            }],
            max_allocation_bytes: bytes,
            max_allocations: u64::MAX,
            max_kernel_bytes: bytes,
            host_import_alignment: self.facts.import_alignment,
            unusable: self.unusable,
        }
    }
}
