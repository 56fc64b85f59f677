//! `Device`: which memory a tensor or a pool lives in. A name, not a driver.
//!
//! Absent on purpose: whether the device is there. `backend/` answers that, with an error that says what it looked for.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Where bytes live.
///
/// Printed and parsed as `cpu`, `cuda:0`, `vulkan:0`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Device {
    /// Host memory.
    #[default]
    Cpu,
    /// The CUDA device of this ordinal.
    Cuda(u32),
    /// The Vulkan device of this ordinal.
    Vulkan(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(n) => write!(f, "cuda:{n}"),
            Device::Vulkan(n) => write!(f, "vulkan:{n}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// Parses `cpu`, `cuda`, `cuda:N`, `vulkan`, `vulkan:N`; no ordinal means 0.
    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::UnknownDevice { name: text.to_owned() };
        let (kind, ordinal) = match text.split_once(':') {
            // `parse` would take "+1" too; a device name is digits only.
            Some((kind, digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                (kind, Some(digits.parse::<u32>().map_err(|_| unknown())?))
            }
            Some(_) => return Err(unknown()),
            None => (text, None),
        };
        match (kind, ordinal) {
            ("cpu", None | Some(0)) => Ok(Device::Cpu),
            ("cuda", n) => Ok(Device::Cuda(n.unwrap_or(0))),
            ("vulkan", n) => Ok(Device::Vulkan(n.unwrap_or(0))),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_parses_back() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(7), Device::Vulkan(3)] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
    }

    #[test]
    fn other_names_are_refused_by_name() {
        for name in [
            "",
            "gpu",
            "cpu:1",
            "cuda:",
            "cuda:-1",
            "cuda:+1",
            "cuda:99999999999",
            "CPU",
        ] {
            let error = name.parse::<Device>().unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
    }
}
