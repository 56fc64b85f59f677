//! What tests have go wrong.

use crate::codes::Code;

#[derive(Debug)]
struct Planned {
    /// `None`: any call that may fail.
    name: Option<String>,
    /// Calls until it fails.
    left: u64,
    code: Code,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    planned: Vec<Planned>,
    /// The device is lost: every call answers this.
    pub(crate) lost: Option<Code>,
}

/// Calls that give something back, or only tell: no program could do anything about their failing.
const NEVER: [&str; 19] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuCtxPopCurrent_v2",
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuMemFree_v2",
    "cuMemFreeHost",
    "cuMemHostUnregister",
    "cuMemUnmap",
    "cuMemRelease",
    "cuMemAddressFree",
    "cuStreamDestroy_v2",
    "cuEventDestroy_v2",
    "cuModuleUnload",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxGetDevice",
    "cuStreamGetCtx",
    "cuPointerGetAttribute",
    "cuMemGetAllocationGranularity",
];

impl Faults {
    pub(crate) fn plan(&mut self, name: Option<&str>, nth: u64, code: Code) {
        self.planned.retain(|planned| planned.name.as_deref() != name);
        if nth > 0 {
            let name = name.map(str::to_owned);
            self.planned.push(Planned { name, left: nth, code });
        }
    }

    /// A call is made: the code with which it fails.
    pub(crate) fn strike(&mut self, call: &str) -> Option<Code> {
        if self.lost.is_some() && call != "cuCtxPopCurrent_v2" {
            return self.lost;
        }
        if self.planned.is_empty() {
            return None;
        }
        let mut code = None;
        self.planned.retain_mut(|planned| {
            let meant = planned
                .name
                .as_ref()
                .map_or(!NEVER.contains(&call), |name| name == call);
            planned.left -= u64::from(meant);
            if planned.left == 0 {
                code = Some(planned.code);
            }
            planned.left > 0
        });
        code
    }
}
