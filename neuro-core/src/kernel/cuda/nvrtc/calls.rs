//! The calls of NVRTC as a table of addresses. Codes are raw: a newer NVRTC may return some that no list has.
//!
//! Source: the interface as documented by NVIDIA, versions 11.2 to 13.0.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::NonNull;

use crate::backend::host::library::Library;

/// `nvrtcResult`.
pub(super) type Code = u32;
/// `nvrtcProgram`.
pub(super) type Handle = *mut c_void;

pub(super) const SUCCESS: Code = 0;
pub(super) const INVALID_OPTION: Code = 5;
pub(super) const COMPILATION: Code = 6;

/// Makes the table: calls that every NVRTC has, and those that it may lack.
macro_rules! calls {
    (required { $($name:ident = $symbol:literal: fn($($argument:ty),*);)* } optional { $($may:ident = $may_symbol:literal: fn($($may_argument:ty),*);)* }) => {
        /// Addresses of calls. All of them may be called from any thread, two of one program by one at a time.
        #[derive(Clone, Copy, Debug)]
        pub(super) struct Calls {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) -> Code,)*
            $(pub(super) $may: Option<unsafe extern "C" fn($($may_argument),*) -> Code>,)*
            error_string: Option<unsafe extern "C" fn(Code) -> *const c_char>,
        }

        impl Calls {
            /// The table of an open library.
            ///
            /// # Errors
            /// The name of a call that is needed and is not there.
            ///
            /// # Safety
            /// The library is NVRTC: what it exports under these names are these calls.
            pub(super) unsafe fn of(library: Library) -> Result<Self, &'static str> {
                let address_of = |name: &str| library.address_of(&CString::new(name).ok()?);
                $(
                    let $name = address_of($symbol).ok_or($symbol)?;
                    // SAFETY: by contract the address of a function of this type.
                    let $name = unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) -> Code>($name.as_ptr()) };
                )*
                $(
                    let $may = address_of($may_symbol).map(|address| {
                        // SAFETY: as above.
                        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($may_argument),*) -> Code>(address.as_ptr()) }
                    });
                )*
                let error_string = address_of("nvrtcGetErrorString").map(|address| {
                    // SAFETY: as above.
                    unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn(Code) -> *const c_char>(address.as_ptr()) }
                });
                Ok(Self { $($name,)* $($may,)* error_string })
            }
        }
    };
}

calls! {
    required {
        version = "nvrtcVersion": fn(*mut c_int, *mut c_int);
        create = "nvrtcCreateProgram": fn(*mut Handle, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char);
        compile = "nvrtcCompileProgram": fn(Handle, c_int, *const *const c_char);
        destroy = "nvrtcDestroyProgram": fn(*mut Handle);
        ptx_size = "nvrtcGetPTXSize": fn(Handle, *mut usize);
        ptx = "nvrtcGetPTX": fn(Handle, *mut c_char);
        log_size = "nvrtcGetProgramLogSize": fn(Handle, *mut usize);
        log = "nvrtcGetProgramLog": fn(Handle, *mut c_char);
    }
    optional {
        cubin_size = "nvrtcGetCUBINSize": fn(Handle, *mut usize);
        cubin = "nvrtcGetCUBIN": fn(Handle, *mut c_char);
        architecture_count = "nvrtcGetNumSupportedArchs": fn(*mut c_int);
        architectures = "nvrtcGetSupportedArchs": fn(*mut c_int);
        add_name = "nvrtcAddNameExpression": fn(Handle, *const c_char);
        lowered_name = "nvrtcGetLoweredName": fn(Handle, *const c_char, *mut *const c_char);
    }
}

impl Calls {
    /// What a code means, in NVRTC's words.
    pub(super) fn meaning(&self, code: Code) -> String {
        // SAFETY: any code may be asked about.
        let text = self.error_string.map(|error_string| unsafe { error_string(code) });
        match text {
            // SAFETY: it is a string of the library, which stays.
            Some(text) if !text.is_null() => unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned(),
            _ => "no word for it".to_owned(),
        }
    }

    /// An address within the library.
    pub(super) fn somewhere(&self) -> Option<NonNull<c_void>> {
        NonNull::new(self.version as *mut c_void)
    }
}
