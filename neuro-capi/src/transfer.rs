//! Transfers: tensors on their way to another device while the caller goes on; and when what is on a device can be used here.

use std::ffi::c_void;
use std::ptr;

use neuro_core::{DynTensor, Error, Transfer};

use crate::device::neuro_device_t;
use crate::guard::{self, Handle};
use crate::handles::{Table, the_table};
use crate::pool::{neuro_pool_t, pool_or_default};
use crate::status::{Failure, NEURO_OK, Result, neuro_status_t, remember};
use crate::tensor::neuro_tensor_t;
use crate::view::derive;

/// A tensor on its way. It has what it needs: the tensor it is made from may be released at once, and so may the transfer, which
/// then goes on to its end. Any thread may use it; each holds a reference of its own.
pub struct neuro_transfer_t(());

impl Handle for Transfer {
    type Opaque = neuro_transfer_t;
    const NAME: &'static str = "neuro_transfer_t";
    fn table() -> &'static Table<Self> {
        the_table!(Transfer, 5)
    }
}

/// Told what became of a transfer: `NEURO_OK` and a tensor, which is a reference of the callback's own, to be released once; or why
/// it failed, and NULL, and `neuro_last_error()` says it in words until the callback's next failing call.
///
/// Called on the thread that brings the tensor, which brings other transfers too: be quick. Or, if the transfer is over already, at
/// once on the thread that asks. No lock is held: it may call anything but a wait for a transfer that is not over. It returns: no
/// `longjmp`, and no C++ exception.
pub type neuro_transfer_callback_t =
    Option<unsafe extern "C" fn(context: *mut c_void, status: neuro_status_t, tensor: *mut neuro_tensor_t)>;

/// As `neuro_tensor_to_device`, while the caller goes on. What is known at once is said at once: a device that is not there, no
/// memory; the rest by `neuro_transfer_wait`. Release `*out` once.
///
/// # Safety
/// A live `tensor` is not released meanwhile; nobody writes its elements until the transfer is over; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_to_device_async(
    tensor: *const neuro_tensor_t,
    device: neuro_device_t,
    out: *mut *mut neuro_transfer_t,
) -> neuro_status_t {
    const OP: &str = "neuro_tensor_to_device_async";
    // SAFETY: forwarded condition.
    unsafe {
        begin(OP, tensor, out, |tensor| {
            Ok(tensor.to_device_async(device.to_core(OP)?)?)
        })
    }
}

/// As `neuro_tensor_to_pool`, while the caller goes on. Release `*out` once.
///
/// # Safety
/// Live handles are not released meanwhile; nobody writes the elements until the transfer is over; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_to_pool_async(
    tensor: *const neuro_tensor_t,
    pool: *mut neuro_pool_t,
    out: *mut *mut neuro_transfer_t,
) -> neuro_status_t {
    const OP: &str = "neuro_tensor_to_pool_async";
    // SAFETY: forwarded condition.
    unsafe {
        begin(OP, tensor, out, |tensor| {
            Ok(tensor.to_pool_async(pool_or_default(OP, pool)?)?)
        })
    }
}

/// Waits until the tensor is there, and gives a reference to it, to be released once: as often as asked, on any thread. What went
/// wrong on the way is told each time.
///
/// # Safety
/// A live `transfer` is not released meanwhile; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_transfer_wait(
    transfer: *const neuro_transfer_t,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    const OP: &str = "neuro_transfer_wait";
    let wait = || {
        // SAFETY: as this function's condition says.
        let transfer: &Transfer = unsafe { guard::live(OP, transfer) }?;
        Ok(transfer.wait()?)
    };
    // SAFETY: as this function's condition says.
    unsafe { guard::give_handle(OP, out, wait) }
}

/// Whether the transfer is over, well or not: `neuro_transfer_wait` would not wait.
///
/// # Safety
/// A live `transfer` is not released meanwhile; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_transfer_is_done(transfer: *const neuro_transfer_t, out: *mut bool) -> neuro_status_t {
    const OP: &str = "neuro_transfer_is_done";
    let ask = || {
        // SAFETY: as this function's condition says.
        let transfer: &Transfer = unsafe { guard::live(OP, transfer) }?;
        Ok(transfer.is_done())
    };
    // SAFETY: as this function's condition says.
    unsafe { guard::give(OP, out, false, ask) }
}

/// Has `callback` called once with `context` and what became of the transfer, now or when it is over, whether or not the handle is
/// released before. Any number of callbacks can be asked for. In a child of `fork` none is called.
///
/// # Safety
/// A live `transfer` is not released meanwhile; any thread may call `callback` with `context` until it has been called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_transfer_then(
    transfer: *const neuro_transfer_t,
    callback: neuro_transfer_callback_t,
    context: *mut c_void,
) -> neuro_status_t {
    const OP: &str = "neuro_transfer_then";
    guard::status(|| {
        // SAFETY: as this function's condition says.
        let transfer: &Transfer = unsafe { guard::live(OP, transfer) }?;
        let Some(call) = callback else {
            return Err(Failure::argument(OP, "callback is NULL"));
        };
        let callback = Callback { call, context };
        transfer.then(move |result| callback.run(result));
        Ok(())
    })
}

/// One more reference to `transfer`, to be released once.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_transfer_retain(transfer: *mut neuro_transfer_t) -> neuro_status_t {
    guard::retain::<Transfer>("neuro_transfer_retain", transfer)
}

/// One reference to `transfer` less. With the last one nobody waits for it any more: it goes on to its end, and calls whom it was
/// asked to. NULL does nothing; a release after the last one is `NEURO_INVALID_FREE` and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_transfer_release(transfer: *mut neuro_transfer_t) -> neuro_status_t {
    guard::release::<Transfer>("neuro_transfer_release", transfer)
}

/// Waits until all work that was submitted on the storage of `tensor` is done. On the cpu there is none.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_synchronize(tensor: *const neuro_tensor_t) -> neuro_status_t {
    const OP: &str = "neuro_tensor_synchronize";
    guard::status(|| {
        // SAFETY: as this function's condition says.
        let tensor: &DynTensor = unsafe { guard::live(OP, tensor) }?;
        Ok(tensor.synchronize()?)
    })
}

/// A tensor of the cpu over the same bytes, for memory of a device that the processor reaches; it waits until work on them is done.
/// For a tensor of the cpu that is another handle of it. Where the processor does not reach the memory, as on most graphics cards,
/// it is `NEURO_UNAVAILABLE`: copy it with `neuro_tensor_to_device`. Release `*out` once.
///
/// # Safety
/// A live `tensor` is not released meanwhile; who writes on one side keeps other users of the other away, and reads what work of
/// the device wrote after `neuro_tensor_synchronize`; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_map(
    tensor: *const neuro_tensor_t,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    // SAFETY: forwarded condition.
    unsafe { derive("neuro_tensor_map", tensor, out, |tensor| Ok(tensor.map()?)) }
}

/// # Safety
/// As [`neuro_tensor_to_device_async`].
unsafe fn begin(
    op: &'static str,
    tensor: *const neuro_tensor_t,
    out: *mut *mut neuro_transfer_t,
    start: impl FnOnce(&DynTensor) -> Result<Transfer>,
) -> neuro_status_t {
    let make = || {
        // SAFETY: forwarded condition.
        start(unsafe { guard::live(op, tensor) }?)
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give_handle(op, out, make) }
}

/// What C wants to have called.
struct Callback {
    call: unsafe extern "C" fn(*mut c_void, neuro_status_t, *mut neuro_tensor_t),
    context: *mut c_void,
}

// SAFETY: any thread may call it with its context, by the condition of `neuro_transfer_then`.
unsafe impl Send for Callback {}

impl Callback {
    fn run(self, result: std::result::Result<DynTensor, Error>) {
        let (status, tensor) = match guard::new_handle("neuro_transfer_then", || Ok(result?)) {
            Ok(tensor) => (NEURO_OK, tensor),
            Err(failure) => {
                let status = failure.status;
                remember(failure);
                (status, ptr::null_mut())
            }
        };
        // SAFETY: the caller of `neuro_transfer_then` vouches for both until the call, and this is the only one.
        unsafe { (self.call)(self.context, status, tensor) };
    }
}
