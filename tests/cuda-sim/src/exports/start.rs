//! The driver itself, what its codes mean, and what its devices are.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use crate::codes::{self, Code, INVALID_DEVICE, INVALID_VALUE, NO_DEVICE, NOT_FOUND, SUCCESS};
use crate::device;
use crate::gate::{DEVICES_OF_A_WORLD, give, in_world, on_device};
use crate::life;

/// 13.0.
const VERSION: c_int = 13000;

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuInit(flags: c_uint) -> Code {
    if !life::is_forked() {
        life::start();
    }
    in_world("cuInit", |world| {
        if flags != 0 {
            return Err(INVALID_VALUE);
        }
        if world.devices.is_empty() {
            return Err(NO_DEVICE);
        }
        world.initialised = true;
        crate::world::prepare_protection();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> Code {
    // SAFETY: the caller's contract.
    in_world("cuDriverGetVersion", |_| unsafe { give(version, VERSION) })
}

/// Tables of calls that have no names, which there are none of here. NVRTC looks for this call in a driver that is loaded, and does without
/// the tables, but not without the call.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuGetExportTable(table: *mut *const c_void, _: *const [u8; 16]) -> Code {
    // SAFETY: the caller's contract.
    let _ = unsafe { give(table, std::ptr::null()) };
    NOT_FOUND
}

/// # Safety
/// `text` is null or has room for an address.
unsafe fn give_words(text: *mut *const c_char, words: Option<&'static CStr>) -> Code {
    let Some(words) = words else {
        // SAFETY: forwarded contract.
        let _ = unsafe { give(text, std::ptr::null()) };
        return INVALID_VALUE;
    };
    // SAFETY: forwarded contract.
    unsafe { give(text, words.as_ptr()) }.err().unwrap_or(SUCCESS)
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuGetErrorName(code: Code, text: *mut *const c_char) -> Code {
    // SAFETY: the caller's contract.
    unsafe { give_words(text, codes::words(code).map(|(name, _)| name)) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuGetErrorString(code: Code, text: *mut *const c_char) -> Code {
    // SAFETY: the caller's contract.
    unsafe { give_words(text, codes::words(code).map(|(_, words)| words)) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> Code {
    // SAFETY: the caller's contract.
    in_world("cuDeviceGetCount", |world| unsafe {
        give(count, world.devices.len() as c_int)
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> Code {
    in_world("cuDeviceGet", |world| {
        if ordinal < 0 || ordinal as usize >= world.devices.len() {
            return Err(INVALID_DEVICE);
        }
        let first = (world.world * DEVICES_OF_A_WORLD) as c_int;
        // SAFETY: the caller's contract.
        unsafe { give(device, first + ordinal) }
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, room: c_int, device: c_int) -> Code {
    on_device("cuDeviceGetName", device, |_, ordinal| {
        let words = format!("Simulated CUDA device {ordinal}");
        let len = words.len().min(usize::try_from(room - 1).map_err(|_| INVALID_VALUE)?);
        if name.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: the caller's contract: there is room for `room` characters, of which at most `room - 1` and the zero are used.
        unsafe {
            std::ptr::copy_nonoverlapping(words.as_ptr().cast(), name, len);
            name.add(len).write(0);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) -> Code {
    on_device("cuDeviceTotalMem_v2", device, |world, ordinal| {
        // SAFETY: the caller's contract.
        unsafe { give(bytes, world.devices[ordinal as usize].memory as usize) }
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_uint, device: c_int) -> Code {
    on_device("cuDeviceGetAttribute", device, |_, ordinal| {
        let answer = device::attribute(attribute, ordinal).ok_or(INVALID_VALUE)?;
        // SAFETY: the caller's contract.
        unsafe { give(value, answer) }
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], device: c_int) -> Code {
    // SAFETY: the caller's contract.
    on_device("cuDeviceGetUuid_v2", device, |_, ordinal| unsafe {
        give(uuid, device::uuid(ordinal))
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuDeviceCanAccessPeer(can: *mut c_int, device: c_int, peer: c_int) -> Code {
    on_device("cuDeviceCanAccessPeer", device, |world, ordinal| {
        let peer = u32::try_from(peer).map_err(|_| INVALID_DEVICE)?;
        let other = peer % DEVICES_OF_A_WORLD;
        if peer / DEVICES_OF_A_WORLD != world.world || other as usize >= world.devices.len() {
            return Err(INVALID_DEVICE);
        }
        let answer = c_int::from(world.peers && other != ordinal);
        // SAFETY: the caller's contract.
        unsafe { give(can, answer) }
    })
}
