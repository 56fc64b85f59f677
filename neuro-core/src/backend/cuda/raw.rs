//! What a device shows of itself to code that speaks CUDA.

use std::ffi::{CStr, c_void};

use super::CudaDevice;
use super::refuse::{INVALID_VALUE, SUCCESS};
use super::slabs::address;
use crate::backend::raw_cuda::{Handles, HeldEvent, Launch, RawCuda};
use crate::backend::{OWN_QUEUES, Queue, Refusal, SlabId, Span, Ticket, life};

/// Bytes of the driver's words on PTX that it refuses.
const LOG_BYTES: usize = 8 << 10;
/// `CU_JIT_ERROR_LOG_BUFFER` and `CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES`.
const LOG_OPTIONS: [u32; 2] = [5, 6];

/// `CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL`.
const DEVICE_ORDINAL: u32 = 9;

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
const MAX_DYNAMIC_SHARED: i32 = 8;

impl RawCuda for CudaDevice {
    fn handles(&self) -> Handles {
        let [compute, upload, download] = OWN_QUEUES.map(|queue| self.line(queue).stream.unwrap_or_default());
        Handles {
            device: self.number,
            context: self.shared.context,
            compute,
            upload,
            download,
            capability: self.capability,
            driver_version: self.driver_version,
        }
    }

    fn address(&self, span: Span) -> u64 {
        address(span)
    }

    fn device_at(&self, address: u64) -> Result<Option<u32>, Refusal> {
        let _inside = self.shared.health.check()?;
        let Some(attribute) = self.shared.driver.pointer_attribute else {
            return Ok(None);
        };
        let _current = self.shared.make_current()?;
        let mut ordinal: i32 = 0;
        // SAFETY: there is room for the answer, which is an `int`; the address is only looked up.
        let code = unsafe { attribute((&raw mut ordinal).cast(), DEVICE_ORDINAL, address) };
        if code == INVALID_VALUE {
            return Ok(None); // nothing of CUDA's
        }
        self.shared.answer("cuPointerGetAttribute", code)?;
        Ok(u32::try_from(ordinal).ok())
    }

    unsafe fn open_stream(&self, stream: usize) -> Result<Queue, Refusal> {
        let _inside = self.shared.health.check()?;
        // SAFETY: forwarded contract.
        unsafe { self.open_guest(stream) }
    }

    fn close_stream(&self, queue: Queue) {
        // Also of a lost device: the stream is its owner's from then on.
        if let Ok(_inside) = life::enter() {
            // What cannot be marked is never known to be done, and whoever needs that is told why.
            let _ = self.close_guest(queue);
        }
    }

    unsafe fn with_stream(
        &self,
        queue: Queue,
        waits: &[Ticket],
        work: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Ticket>, Refusal> {
        let _inside = self.shared.health.check()?;
        // SAFETY: forwarded contract.
        let submitted = unsafe { self.in_stream(queue, waits, |stream| Ok(work(stream).then_some(()))) }?;
        Ok(submitted.map(|(ticket, ())| ticket))
    }

    fn so_far(&self, queue: Queue) -> Result<Ticket, Refusal> {
        let _inside = self.shared.health.check()?;
        Ok(self.line(queue).count())
    }

    fn hold(&self, queue: Queue, waits: &[Ticket]) -> Result<(), Refusal> {
        let _inside = self.shared.health.check()?;
        // SAFETY: nothing is submitted.
        unsafe { self.in_stream(queue, waits, |_| Ok(None::<()>)) }.map(drop)
    }

    fn load_module(&self, image: &[u8]) -> Result<usize, Refusal> {
        const CALL: &str = "cuModuleLoadDataEx";
        let _inside = self.shared.health.check()?;
        let Some(load) = self.shared.driver.module_load else {
            return Err(self.shared.lacks(CALL));
        };
        let _current = self.shared.make_current()?;
        let mut log = vec![0u8; LOG_BYTES];
        // The size is handed over as the value itself, in the place of an address.
        let size = std::ptr::without_provenance_mut::<c_void>(LOG_BYTES);
        let mut values = [log.as_mut_ptr().cast::<c_void>(), size];
        let mut module = 0;
        // SAFETY: the image is whole, and closed by a zero byte where it is text, says the contract; two options and their two values,
        // of which the driver changes the size, and which live until the call returns, as the log does, which has so many bytes.
        let code = unsafe {
            load(
                &mut module,
                image.as_ptr().cast(),
                LOG_OPTIONS.len() as u32,
                LOG_OPTIONS.as_ptr(),
                values.as_mut_ptr(),
            )
        };
        self.shared.answer(CALL, code).map_err(|refusal| {
            let end = log.iter().position(|&byte| byte == 0).unwrap_or_default();
            match refusal {
                Refusal::Call { call, code, meaning } if end > 0 => Refusal::Call {
                    call,
                    code,
                    meaning: format!("{meaning}: {}", String::from_utf8_lossy(&log[..end]).trim_end()),
                },
                other => other,
            }
        })?;
        Ok(module)
    }

    unsafe fn unload_module(&self, module: usize) {
        if let Ok(_inside) = life::enter()
            && let Some(unload) = self.shared.driver.module_unload
            && let Ok(_current) = self.shared.make_current()
        {
            // SAFETY: forwarded contract. There is nothing to be done about what it says.
            let _ = unsafe { unload(module) };
        }
    }

    fn function(&self, module: usize, name: &CStr) -> Result<usize, Refusal> {
        const CALL: &str = "cuModuleGetFunction";
        let _inside = self.shared.health.check()?;
        let Some(find) = self.shared.driver.module_function else {
            return Err(self.shared.lacks(CALL));
        };
        let _current = self.shared.make_current()?;
        let mut function = 0;
        // SAFETY: a module of this context, room for the answer, a name.
        let code = unsafe { find(&mut function, module, name.as_ptr()) };
        self.shared.answer(CALL, code)?;
        Ok(function)
    }

    unsafe fn launch(&self, stream: usize, launch: &Launch<'_>) -> Result<(), Refusal> {
        const CALL: &str = "cuLaunchKernel";
        let Some(call) = self.shared.driver.launch else {
            return Err(self.shared.lacks(CALL));
        };
        let ([x, y, z], [wide, high, deep]) = (launch.grid, launch.block);
        // SAFETY: forwarded contract; the context is current in a turn; the parameters live until the call returns, which copies them.
        let try_it = || unsafe {
            call(
                launch.function,
                x,
                y,
                z,
                wide,
                high,
                deep,
                launch.shared_bytes,
                stream,
                launch.params.as_ptr().cast(),
                std::ptr::null(),
            )
        };
        let mut code = try_it();
        // More than 48 KiB, the kernel's own included, has to be allowed a kernel first; whether it is so much only the driver knows.
        if code == INVALID_VALUE
            && launch.shared_bytes > 0
            && let Some(allow) = self.shared.driver.function_attribute
        {
            // SAFETY: a function of this context; the driver says whether the device has so much.
            let allowed = unsafe { allow(launch.function, MAX_DYNAMIC_SHARED, launch.shared_bytes.cast_signed()) };
            if allowed == SUCCESS {
                code = try_it();
            }
        }
        self.shared.answer(CALL, code)
    }

    fn is_for_peers(&self, slab: SlabId) -> bool {
        self.shared.driver.peer_copy.is_some() && self.slabs.is_allocated(slab)
    }

    fn events_of(&self, waits: &[Ticket]) -> Result<Vec<HeldEvent>, Refusal> {
        let _inside = self.shared.health.check()?;
        self.held_events(waits)
    }

    fn wait_for_event(&self, stream: usize, event: &HeldEvent) -> Result<(), Refusal> {
        self.shared.wait_for_held(stream, event)
    }

    unsafe fn order_stream(&self, stream: usize, waits: &[Ticket]) -> Result<(), Refusal> {
        let _inside = self.shared.health.check()?;
        // SAFETY: forwarded contract.
        unsafe { self.order_other(stream, waits) }
    }

    unsafe fn mark_stream(&self, stream: usize) -> Result<HeldEvent, Refusal> {
        let _inside = self.shared.health.check()?;
        // SAFETY: forwarded contract.
        unsafe { self.mark_other(stream) }
    }

    unsafe fn check_capture(&self, stream: usize) -> Result<(), Refusal> {
        let _inside = self.shared.health.check()?;
        let _current = self.shared.make_current()?;
        self.shared.check_capture(stream)
    }

    unsafe fn finish_stream(&self, stream: usize) -> Result<(), Refusal> {
        let _inside = self.shared.health.check()?;
        // SAFETY: forwarded contract.
        unsafe { self.finish_other(stream) }
    }

    unsafe fn copy_to_peer(&self, stream: usize, from: Span, to: (Handles, u64), bytes: usize) -> Result<(), Refusal> {
        // SAFETY: forwarded contract.
        unsafe { self.peer_copy(stream, from, to, bytes) }
    }
}
