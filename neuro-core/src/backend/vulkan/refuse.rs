//! What the driver says, as a [`Refusal`]; and whether the device is lost, which it is for good.

use ash::vk;
use gpu_allocator::AllocationError;

use crate::backend::Refusal;
use crate::backend::health::Health;

/// Codes that mean that something is not there in such numbers.
const NO_MEMORY: [vk::Result; 6] = [
    vk::Result::ERROR_OUT_OF_DEVICE_MEMORY,
    vk::Result::ERROR_OUT_OF_HOST_MEMORY,
    vk::Result::ERROR_TOO_MANY_OBJECTS,
    vk::Result::ERROR_OUT_OF_POOL_MEMORY,
    vk::Result::ERROR_FRAGMENTATION,
    vk::Result::ERROR_MEMORY_MAP_FAILED,
];

impl Health {
    /// The device is lost, as `call` found.
    pub(super) fn lost_by(&self, call: &'static str) -> Refusal {
        self.lose(|| format!("{call}: the driver says that the device is lost (reset, removed, or hung)"))
    }

    /// What `code` means as the answer of `call`.
    pub(super) fn refusal(&self, call: &'static str, code: vk::Result) -> Refusal {
        if code == vk::Result::ERROR_DEVICE_LOST {
            self.lost_by(call)
        } else if NO_MEMORY.contains(&code) {
            Refusal::NoMemory
        } else {
            Refusal::Call {
                call,
                code: i64::from(code.as_raw()),
                meaning: code.to_string(),
            }
        }
    }

    /// The same for the crate that holds memory, which hands most codes on as words only.
    pub(super) fn refusal_of_memory(&self, error: &AllocationError) -> Refusal {
        match error {
            AllocationError::OutOfMemory | AllocationError::FailedToMap(_) => return Refusal::NoMemory,
            AllocationError::Internal(words) => {
                let named = |code: &&vk::Result| words.contains(&format!("{code:?}"));
                let known = NO_MEMORY.iter().chain(&[vk::Result::ERROR_DEVICE_LOST]).find(named);
                if let Some(&code) = known {
                    return self.refusal("vkAllocateMemory", code);
                }
            }
            _ => {}
        }
        Refusal::Call {
            call: "vkAllocateMemory",
            code: i64::from(vk::Result::ERROR_UNKNOWN.as_raw()),
            meaning: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_refusals() {
        let health = Health::default();
        for code in NO_MEMORY {
            assert_eq!(health.refusal("call", code), Refusal::NoMemory, "{code:?}");
            let words = AllocationError::Internal(format!("Unexpected error in vkAllocateMemory: {code:?}"));
            assert_eq!(health.refusal_of_memory(&words), Refusal::NoMemory, "{code:?}");
        }
        let other = health.refusal("call", vk::Result::ERROR_INITIALIZATION_FAILED);
        assert!(
            matches!(
                &other,
                Refusal::Call {
                    call: "call",
                    code: -3,
                    ..
                }
            ),
            "{other:?}"
        );
        let other = health.refusal_of_memory(&AllocationError::NoCompatibleMemoryTypeFound);
        assert!(matches!(&other, Refusal::Call { code: -13, .. }), "{other:?}");
        // A code that the bindings do not know is kept.
        let unknown = health.refusal("call", vk::Result::from_raw(-1_000_999_999));
        assert!(
            matches!(
                unknown,
                Refusal::Call {
                    code: -1_000_999_999,
                    ..
                }
            ),
            "{unknown:?}"
        );
    }

    #[test]
    fn what_is_lost_stays_lost() {
        let health = Health::default();
        assert!(health.check().is_ok());
        let first = health.refusal("vkQueueSubmit", vk::Result::ERROR_DEVICE_LOST);
        assert!(
            matches!(&first, Refusal::Lost(why) if why.contains("vkQueueSubmit")),
            "{first:?}"
        );
        assert_eq!(health.lost_by("vkWaitSemaphores"), first);
        assert_eq!(health.check().unwrap_err(), first);
    }
}
