//! Modules and launches.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use crate::codes::{Code, INVALID_HANDLE, INVALID_VALUE, NO_BINARY_FOR_GPU, NOT_FOUND, NOT_SUPPORTED};
use crate::gate::{give, in_context};
use crate::handle::Handle;
use crate::kernel::{Function, Image, Launch, MOST_SHARED, Module, PLAIN_SHARED};

/// What a cubin and a fat binary begin with.
const BINARIES: [[u8; 4]; 2] = [*b"\x7fELF", [0x50, 0xed, 0x55, 0xba]];

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuModuleLoadDataEx(
    module: *mut Handle,
    image: *const c_void,
    _: c_uint,
    _: *const c_uint,
    _: *const *mut c_void,
) -> Code {
    in_context("cuModuleLoadDataEx", |world, device| {
        if image.is_null() || module.is_null() {
            return Err(INVALID_VALUE);
        }
        let is = |binary: &[u8; 4]| {
            let mut bytes = binary.iter().enumerate();
            // SAFETY: the caller's contract: a binary is longer than this, and else it is text, at whose zero the comparison ends.
            bytes.all(|(at, byte)| unsafe { *image.cast::<u8>().add(at) } == *byte)
        };
        if BINARIES.iter().any(is) {
            return Err(NO_BINARY_FOR_GPU);
        }
        // SAFETY: the caller's contract: what is no binary is text that ends in a zero.
        let text = unsafe { CStr::from_ptr(image.cast()) };
        let image = Image::read(text).map_err(|(code, _)| code)?;
        let number = world.modules.add(Module {
            device,
            image,
            launches: Default::default(),
        });
        let answer = world.modules.handle(number);
        // SAFETY: the caller's contract.
        unsafe { give(module, answer) }
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuModuleUnload(module: Handle) -> Code {
    const CALL: &str = "cuModuleUnload";
    in_context(CALL, |world, _| {
        let Ok(number) = world.modules.find(module) else {
            let words = world.modules.wrong(module);
            return world.wrong(format!("{CALL} is given {words}"), INVALID_HANDLE);
        };
        let Some(gone) = world.modules.remove(number) else {
            return Err(INVALID_HANDLE);
        };
        let unfinished = gone
            .launches
            .iter()
            .copied()
            .find(|event| !world.host.is_behind(*event));
        if let Some(event) = unfinished {
            let event = world.event_words(event);
            world.finding(format!(
                "{CALL}: module {number} is unloaded, and the host does not know that {event} is done"
            ));
        }
        world.run_device(CALL, gone.device)
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuModuleGetFunction(
    function: *mut Handle,
    module: Handle,
    name: *const c_char,
) -> Code {
    const CALL: &str = "cuModuleGetFunction";
    in_context(CALL, |world, _| {
        let Ok(number) = world.modules.find(module) else {
            let words = world.modules.wrong(module);
            return world.wrong(format!("{CALL} is given {words}"), INVALID_HANDLE);
        };
        if name.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: the caller's contract.
        let name = unsafe { CStr::from_ptr(name) }.to_str().map_err(|_| NOT_FOUND)?;
        let kernel = world
            .modules
            .get(number)
            .and_then(|module| module.image.find(name))
            .ok_or(NOT_FOUND)?;
        let found = world.functions.add(Function {
            module: number,
            kernel,
            dynamic: PLAIN_SHARED,
        });
        let answer = world.functions.handle(found);
        // SAFETY: the caller's contract.
        unsafe { give(function, answer) }
    })
}

/// Attribute 8 only: how much shared memory launches may ask for.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuFuncSetAttribute(function: Handle, attribute: c_int, value: c_int) -> Code {
    const CALL: &str = "cuFuncSetAttribute";
    in_context(CALL, |world, _| {
        let Ok(number) = world.functions.find(function) else {
            let words = world.functions.wrong(function);
            return world.wrong(format!("{CALL} is given {words}"), INVALID_HANDLE);
        };
        let value = u32::try_from(value).map_err(|_| INVALID_VALUE)?;
        if attribute != 8 || value > MOST_SHARED {
            return Err(INVALID_VALUE);
        }
        if let Some(function) = world.functions.get_mut(number) {
            function.dynamic = value;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments, reason = "the driver's call")]
pub(crate) unsafe extern "C" fn cuLaunchKernel(
    function: Handle,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared: c_uint,
    stream: Handle,
    params: *const *mut c_void,
    extra: *const *mut c_void,
) -> Code {
    const CALL: &str = "cuLaunchKernel";
    in_context(CALL, |world, device| {
        let found = world
            .functions
            .find(function)
            .ok()
            .and_then(|number| world.functions.get(number).cloned());
        let module = found.as_ref().and_then(|function| world.modules.get(function.module));
        let (
            Some(Function {
                module,
                kernel,
                dynamic,
            }),
            Some(of),
        ) = (found, module)
        else {
            let words = world.functions.wrong(function);
            return world.wrong(
                format!("{CALL} is given {words}, or its module was unloaded"),
                INVALID_HANDLE,
            );
        };
        let (image, home) = (of.image.clone(), of.device);
        let stream = world.stream(CALL, device, stream)?;
        if !world.own_stream(CALL, device, stream) {
            return Err(INVALID_HANDLE);
        }
        if home != device {
            let words =
                format!("{CALL}: the context of device {device} is current, and the function is of device {home}");
            return world.wrong(words, INVALID_HANDLE);
        }
        if !extra.is_null() {
            return Err(NOT_SUPPORTED);
        }
        if shared > dynamic {
            return Err(INVALID_VALUE); // it has to be allowed first
        }
        let mut launch = Launch {
            image,
            module,
            kernel,
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared,
            params: Vec::new(),
        };
        // SAFETY: the caller's contract.
        unsafe { launch.take_params(params) }?;
        world.launch(CALL, device, stream, launch)
    })
}
