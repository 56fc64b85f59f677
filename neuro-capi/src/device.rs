//! Devices: what names one, in numbers and in words.
//!
//! Invariant: a `neuro_device_t` that comes from C is checked by [`neuro_device_t::to_core`] before anything is done with it (C4).

use std::ffi::c_char;

use neuro_core::Device;

use crate::guard;
use crate::status::{Failure, Result, neuro_status_t};

/// The host's memory. Its `id` is 0.
pub const NEURO_DEVICE_CPU: i32 = 1;
/// A CUDA device. Its `id` is the ordinal.
pub const NEURO_DEVICE_CUDA: i32 = 2;
/// A Vulkan device. Its `id` is the ordinal.
pub const NEURO_DEVICE_VULKAN: i32 = 7;

/// A device: the numbers are those of DLPack. All zeros mean the cpu too, so that a struct set to zeros does.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct neuro_device_t {
    /// `NEURO_DEVICE_…`.
    pub r#type: i32,
    /// Which of them, counted from 0.
    pub id: i32,
}

impl neuro_device_t {
    /// What a function returns that has no device to name.
    pub(crate) const NONE: Self = Self { r#type: 0, id: 0 };

    /// `device` in numbers.
    ///
    /// # Errors
    /// `NEURO_INVALID_ARGUMENT` for an ordinal that `id` cannot hold.
    pub(crate) fn of(op: &'static str, device: Device) -> Result<Self> {
        let (r#type, ordinal) = match device {
            Device::Cpu => (NEURO_DEVICE_CPU, 0),
            Device::Cuda(ordinal) => (NEURO_DEVICE_CUDA, ordinal),
            Device::Vulkan(ordinal) => (NEURO_DEVICE_VULKAN, ordinal),
        };
        match i32::try_from(ordinal) {
            Ok(id) => Ok(Self { r#type, id }),
            Err(_) => Err(Failure::argument(
                op,
                format_args!("{device}: ordinals go up to {}", i32::MAX),
            )),
        }
    }

    /// The device that the numbers name; whether it is there is another question.
    ///
    /// # Errors
    /// `NEURO_INVALID_ARGUMENT` for numbers that name none.
    pub(crate) fn to_core(self, op: &'static str) -> Result<Device> {
        let Self { r#type, id } = self;
        let Ok(ordinal) = u32::try_from(id) else {
            return Err(Failure::argument(
                op,
                format_args!("device id {id} is negative; ids count from 0"),
            ));
        };
        match (r#type, ordinal) {
            (0 | NEURO_DEVICE_CPU, 0) => Ok(Device::Cpu),
            (0 | NEURO_DEVICE_CPU, _) => Err(Failure::argument(
                op,
                format_args!(
                    "device type {} with id {id}: the cpu is one device, its id is 0",
                    r#type
                ),
            )),
            (NEURO_DEVICE_CUDA, ordinal) => Ok(Device::Cuda(ordinal)),
            (NEURO_DEVICE_VULKAN, ordinal) => Ok(Device::Vulkan(ordinal)),
            _ => Err(Failure::argument(
                op,
                format_args!(
                    "device type {} is unknown; known are NEURO_DEVICE_CPU (1), NEURO_DEVICE_CUDA (2), \
                     NEURO_DEVICE_VULKAN (7)",
                    r#type
                ),
            )),
        }
    }
}

/// The device called `name`: `"cpu"`, `"cuda:0"`, `"vulkan:0"`; no number means 0. Whether it is there, is not asked. `*out`
/// is zeros after a failure.
///
/// # Safety
/// `name` is NULL or a string; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_device_from_name(name: *const c_char, out: *mut neuro_device_t) -> neuro_status_t {
    const OP: &str = "neuro_device_from_name";
    // SAFETY: as this function's condition says.
    unsafe {
        guard::give(OP, out, neuro_device_t::NONE, || {
            // SAFETY: as this function's condition says.
            let name = guard::text(OP, "name", name)?;
            neuro_device_t::of(OP, name.parse()?)
        })
    }
}

/// Writes the name of `device`, as `"vulkan:0"`, and a NUL to the `size` bytes at `buffer`, cut off where it is longer, and
/// gives the bytes that all of it has, without the NUL: a `buffer` of 32 holds every name. NULL with a `size` of 0 only asks for
/// that number. 0 and an empty string for numbers that name no device, which sets the error.
///
/// # Safety
/// `buffer` is NULL or writable for `size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_device_name(device: neuro_device_t, buffer: *mut c_char, size: usize) -> usize {
    const OP: &str = "neuro_device_name";
    // SAFETY: as this function's condition says.
    unsafe { guard::give_text(OP, buffer, size, || Ok(device.to_core(OP)?.to_string())) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::ffi::CStr;

    use super::*;
    use crate::status::{NEURO_INVALID_ARGUMENT, NEURO_OK};

    #[test]
    fn numbers_and_devices_are_one_to_one() {
        for device in [
            Device::Cpu,
            Device::Cuda(0),
            Device::Vulkan(7),
            Device::Cuda(i32::MAX as u32),
        ] {
            assert_eq!(neuro_device_t::of("op", device).unwrap().to_core("op").unwrap(), device);
        }
        assert_eq!(neuro_device_t::NONE.to_core("op").unwrap(), Device::Cpu);
        assert!(neuro_device_t::of("op", Device::Vulkan(1 << 31)).is_err());
        for (r#type, id) in [(0, 1), (1, 1), (1, -1), (2, -1), (7, i32::MIN), (3, 0), (-1, 0), (8, 0)] {
            let failure = neuro_device_t { r#type, id }.to_core("op").unwrap_err();
            assert_eq!(failure.status, NEURO_INVALID_ARGUMENT, "{}", failure.message);
        }
    }

    #[test]
    fn names_are_cut_where_they_do_not_fit() {
        let device = neuro_device_t {
            r#type: NEURO_DEVICE_VULKAN,
            id: 12,
        };
        for (size, seen) in [(32, "vulkan:12"), (10, "vulkan:12"), (9, "vulkan:1"), (1, "")] {
            let mut buffer = [c_char::from_ne_bytes([b'x']); 32];
            // SAFETY: `size` bytes are writable.
            assert_eq!(unsafe { neuro_device_name(device, buffer.as_mut_ptr(), size) }, 9);
            // SAFETY: ends in NUL.
            assert_eq!(unsafe { CStr::from_ptr(buffer.as_ptr()) }.to_str().unwrap(), seen);
            assert!(buffer[size..].iter().all(|&byte| byte as u8 == b'x'));
        }
        let mut out = neuro_device_t::NONE;
        // SAFETY: a string, and writable.
        let status = unsafe { neuro_device_from_name(c"vulkan:12".as_ptr(), &mut out) };
        assert_eq!((status, out), (NEURO_OK, device));
    }
}
