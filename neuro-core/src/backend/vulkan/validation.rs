//! Tests run under the validation layer, with its check that all accesses are ordered. Each of its messages fails the test that ran.

use std::ffi::{CStr, c_void};

use ash::{Entry, Instance, ext, vk};

use crate::sync::global::{AtomicBool, Mutex, Ordering, lock};

const LAYER: &CStr = c"VK_LAYER_KHRONOS_validation";

/// What Mesa's driver itself says of each import that it refuses. The tests ask for that.
const REFUSED_IMPORT: &CStr = c"VK_ERROR_INVALID_EXTERNAL_HANDLE";

static ON: AtomicBool = AtomicBool::new(false);
static MESSAGES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Whether somebody watches.
pub(super) fn on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Everything that was wrong so far in this process.
pub(super) fn messages() -> Vec<String> {
    lock(&MESSAGES).clone()
}

fn is_there(entry: &Entry) -> bool {
    // SAFETY: the lists are the bindings' own.
    let layers = unsafe { entry.enumerate_instance_layer_properties() }.unwrap_or_default();
    layers.iter().any(|layer| layer.layer_name_as_c_str() == Ok(LAYER))
}

/// An instance with the layer where it is installed.
///
/// # Errors
/// What the driver said.
pub(super) fn create_instance(entry: &Entry, info: vk::InstanceCreateInfo<'_>) -> Result<Instance, vk::Result> {
    if !is_there(entry) {
        // SAFETY: as in the product: the description lives until the call returns.
        return unsafe { entry.create_instance(&info, None) };
    }
    let layers = [LAYER.as_ptr()];
    let extensions = [ext::debug_utils::NAME.as_ptr(), ext::validation_features::NAME.as_ptr()];
    let checks = [vk::ValidationFeatureEnableEXT::SYNCHRONIZATION_VALIDATION];
    let mut features = vk::ValidationFeaturesEXT::default().enabled_validation_features(&checks);
    let info = info
        .enabled_layer_names(&layers)
        .enabled_extension_names(&extensions)
        .push_next(&mut features);
    // SAFETY: as above; all that the description points to lives in this function.
    let instance = unsafe { entry.create_instance(&info, None) }?;
    let messenger = vk::DebugUtilsMessengerCreateInfoEXT::default()
        .message_severity(vk::DebugUtilsMessageSeverityFlagsEXT::WARNING | vk::DebugUtilsMessageSeverityFlagsEXT::ERROR)
        .message_type(
            vk::DebugUtilsMessageTypeFlagsEXT::GENERAL
                | vk::DebugUtilsMessageTypeFlagsEXT::VALIDATION
                | vk::DebugUtilsMessageTypeFlagsEXT::PERFORMANCE,
        )
        .pfn_user_callback(Some(collect));
    // SAFETY: the instance lives for good and has the extension; `collect` has the type that is asked for.
    unsafe { ext::debug_utils::Instance::new(entry, &instance).create_debug_utils_messenger(&messenger, None) }?;
    ON.store(true, Ordering::Relaxed);
    Ok(instance)
}

/// # Safety
/// The layer calls it, with data that is valid during the call.
unsafe extern "system" fn collect(
    _: vk::DebugUtilsMessageSeverityFlagsEXT,
    _: vk::DebugUtilsMessageTypeFlagsEXT,
    data: *const vk::DebugUtilsMessengerCallbackDataEXT<'_>,
    _: *mut c_void,
) -> vk::Bool32 {
    // SAFETY: valid during the call, says the contract; the message is a string that ends with a zero, or absent.
    let message = unsafe { data.as_ref().and_then(|data| data.message_as_c_str()) };
    if message == Some(REFUSED_IMPORT) {
        return vk::FALSE;
    }
    lock(&MESSAGES).push(message.unwrap_or(c"(no words)").to_string_lossy().into_owned());
    vk::FALSE // the call goes on as it would without the layer
}
