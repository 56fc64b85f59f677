//! `CompileOptions`: how a source is compiled.

/// How a source is compiled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompileOptions {
    pub(super) name: String,
    pub(super) options: Vec<String>,
    pub(super) instances: Vec<String>,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl CompileOptions {
    /// For the device's architecture, with CUDA's own headers where they are found, and NVRTC's defaults.
    pub fn new() -> Self {
        Self {
            name: "kernel.cu".to_owned(),
            options: Vec::new(),
            instances: Vec::new(),
        }
    }

    /// What the source is called in messages; `kernel.cu` if this is not said.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// One more option of NVRTC, as `--use_fast_math` or `-DN=4`. An architecture that is named so is the one that is taken.
    #[must_use]
    pub fn option(mut self, option: impl Into<String>) -> Self {
        self.options.push(option.into());
        self
    }

    /// Has the compiler make this instance of a template, as `scale<float>`, or a kernel that is not `extern "C"`, which
    /// [`Module::function`](super::Module::function) then finds by this name.
    #[must_use]
    pub fn instance(mut self, kernel: impl Into<String>) -> Self {
        self.instances.push(kernel.into());
        self
    }

    pub(super) fn names_architecture(&self) -> bool {
        let names = |option: &String| {
            let option = option.trim_start_matches('-');
            option.starts_with("gpu-architecture") || option == "arch" || option.starts_with("arch=")
        };
        self.options.iter().any(names)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_of_the_callers_is_noticed() {
        for option in [
            "--gpu-architecture=sm_90a",
            "-arch=sm_80",
            "-arch",
            "--gpu-architecture",
        ] {
            assert!(CompileOptions::new().option(option).names_architecture(), "{option}");
        }
        for option in ["-DARCH=1", "--use_fast_math", "-archive"] {
            assert!(!CompileOptions::new().option(option).names_architecture(), "{option}");
        }
    }
}
