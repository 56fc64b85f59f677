//! Which devices there are beside the cpu, and what is missing.

use std::ffi::c_char;

use neuro_core::{Device, DeviceInfo, Discovery, HeapInfo};

use crate::device::neuro_device_t;
use crate::guard;
use crate::status::{Failure, NEURO_OUT_OF_RANGE, Result, neuro_status_t};
use crate::structs::{self, SizedStruct};

/// A device that was found, and what its driver says of it. Set `struct_size` before the call. Texts are UTF-8, end in NUL, and
/// are cut off where they are longer.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct neuro_device_info_t {
    /// `sizeof(neuro_device_info_t)`, set by the caller.
    pub struct_size: usize,
    /// What it is called here.
    pub device: neuro_device_t,
    /// The driver's name for it.
    pub name: [c_char; 256],
    /// `"discrete"`, `"integrated"`, `"virtual"`, `"software"` or `"other"`.
    pub kind: [c_char; 16],
    /// The driver's name and version.
    pub driver: [c_char; 256],
    /// Version of the interface.
    pub api: [c_char; 64],
    /// Why it cannot be used. Empty: it can.
    pub unusable: [c_char; 256],
    /// The same in every interface that shows the device.
    pub uuid: [u8; 16],
    /// Bytes of its own memory.
    pub memory_bytes: u64,
    /// Bytes of it that this process can expect to get, at this moment. 0: the driver does not say.
    pub budget_bytes: u64,
    /// Bytes of it that this process has. 0 too where the driver does not say.
    pub used_bytes: u64,
    /// Longest piece of memory that it gives, in bytes.
    pub max_allocation_bytes: u64,
    /// How many pieces it gives at once.
    pub max_allocations: u64,
    /// How many bytes of a buffer a kernel sees at once.
    pub max_kernel_bytes: u64,
    /// What host memory begins on that it can use where it lies, in bytes. 0: it cannot.
    pub host_import_alignment: u64,
}

// SAFETY: repr(C), integers only, `struct_size` first; everything before the first u64 takes a multiple of 8 bytes, so there
// is no padding.
unsafe impl SizedStruct for neuro_device_info_t {}

const _: () = assert!(size_of::<neuro_device_info_t>() == 8 + 8 + 256 + 16 + 256 + 64 + 256 + 16 + 7 * 8);

/// Number of devices beside the cpu, those that cannot be used included. Loads the drivers, the first time; the order does not
/// change while the process runs. 0 where there is none: `neuro_device_get_missing` has the words.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_device_get_count() -> usize {
    guard::value(0, || Ok(neuro_core::devices().devices.len()))
}

/// Gives all devices back before the process ends, for good: waits until they are idle, frees their memory, and lets the drivers go.
/// Nobody has to: a process may end with whatever it has on devices. From then on what needs a device is `NEURO_DEVICE_LOST` or
/// `NEURO_UNAVAILABLE`, transfers under way fail, and tensors that are left can be released. Memory into which a mapped tensor looks
/// stays. Any thread may call it, but none that has a turn on a device's queue; a second call does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_shutdown() -> neuro_status_t {
    guard::status(|| {
        neuro_core::shutdown();
        Ok(())
    })
}

/// Device `index`, counted from 0: what it is, as of now. Set `out->struct_size` first; the rest of `*out` is 0 after a failure.
/// An index beyond the last is `NEURO_OUT_OF_RANGE`.
///
/// # Safety
/// `out` is NULL or writable for its `struct_size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_device_get_info(index: usize, out: *mut neuro_device_info_t) -> neuro_status_t {
    const OP: &str = "neuro_device_get_info";
    // SAFETY: as this function's condition says.
    unsafe { guard::give_struct(OP, out, || describe(OP, &neuro_core::devices(), index)) }
}

/// Writes why there is no device of `type` (`NEURO_DEVICE_…`) and how to get one to the `size` bytes at `buffer`, as
/// `neuro_device_name` does. 0 and an empty string where there is one. NULL with a `size` of 0 only asks for the length. An
/// unknown type gives 0 too, and sets the error.
///
/// # Safety
/// `buffer` is NULL or writable for `size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_device_get_missing(r#type: i32, buffer: *mut c_char, size: usize) -> usize {
    const OP: &str = "neuro_device_get_missing";
    let explain = || {
        let wanted = match (neuro_device_t { r#type, id: 0 }).to_core(OP)? {
            Device::Cpu => return Ok(String::new()),
            Device::Cuda(_) => "cuda",
            Device::Vulkan(_) => "vulkan",
        };
        let mut missing = neuro_core::devices().missing.into_iter();
        Ok(missing
            .find(|(name, _)| *name == wanted)
            .map_or_else(String::new, |(_, why)| why))
    };
    // SAFETY: as this function's condition says.
    unsafe { guard::give_text(OP, buffer, size, explain) }
}

fn describe(op: &'static str, found: &Discovery, index: usize) -> Result<neuro_device_info_t> {
    let Some(info) = found.devices.get(index) else {
        let message = format!("{op}: device {index} is out of range for {}", found.devices.len());
        return Err(Failure::new(NEURO_OUT_OF_RANGE, message));
    };
    let DeviceInfo { heaps, unusable, .. } = info;
    let own = |fact: fn(&HeapInfo) -> u64| heaps.iter().filter(|heap| heap.device_local).map(fact).sum();
    Ok(neuro_device_info_t {
        device: neuro_device_t::of(op, info.device)?,
        name: chars(&info.name),
        kind: chars(info.kind),
        driver: chars(&info.driver),
        api: chars(&info.api),
        unusable: chars(unusable.as_deref().unwrap_or_default()),
        uuid: info.uuid,
        memory_bytes: own(|heap| heap.bytes),
        budget_bytes: own(|heap| heap.budget.map_or(0, |(budget, _)| budget)),
        used_bytes: own(|heap| heap.budget.map_or(0, |(_, used)| used)),
        max_allocation_bytes: info.max_allocation_bytes,
        max_allocations: info.max_allocations,
        max_kernel_bytes: info.max_kernel_bytes,
        host_import_alignment: info.host_import_alignment.unwrap_or(0),
        ..structs::zeroed()
    })
}

/// `text` and a NUL, cut off before the character that does not fit.
fn chars<const N: usize>(text: &str) -> [c_char; N] {
    let mut out = [0; N];
    let fits = &text.as_bytes()[..guard::fitting(text, N - 1)];
    for (to, &from) in out.iter_mut().zip(fits) {
        *to = c_char::from_ne_bytes([from]);
    }
    out
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::device::{NEURO_DEVICE_CPU, NEURO_DEVICE_CUDA, NEURO_DEVICE_VULKAN};

    #[test]
    fn texts_end_in_nul_and_with_a_whole_character() {
        let text = |chars: &[c_char]| -> Vec<u8> { chars.iter().map(|&byte| byte as u8).collect() };
        assert_eq!(text(&chars::<4>("ab")), b"ab\0\0");
        assert_eq!(text(&chars::<4>("abcdef")), b"abc\0");
        assert_eq!(text(&chars::<4>("abé")), b"ab\0\0");
        assert_eq!(text(&chars::<1>("é")), b"\0");
    }

    #[test]
    fn a_device_is_there_or_its_kind_is_missing() {
        let found = neuro_core::devices();
        for index in 0..found.devices.len() {
            let info = describe("op", &found, index).unwrap();
            assert_eq!(info.device.to_core("op").unwrap(), found.devices[index].device);
        }
        assert_eq!(
            describe("op", &found, found.devices.len()).err().unwrap().status,
            NEURO_OUT_OF_RANGE
        );
        let lacks = |r#type| {
            // SAFETY: NULL for no bytes.
            unsafe { neuro_device_get_missing(r#type, std::ptr::null_mut(), 0) > 0 }
        };
        let there = |r#type| {
            let of_type = |info: &DeviceInfo| neuro_device_t::of("op", info.device).unwrap().r#type == r#type;
            found.devices.iter().any(of_type)
        };
        for r#type in [NEURO_DEVICE_CUDA, NEURO_DEVICE_VULKAN] {
            assert_ne!(lacks(r#type), there(r#type), "type {}", r#type);
        }
        assert!(!lacks(NEURO_DEVICE_CPU));
    }
}
