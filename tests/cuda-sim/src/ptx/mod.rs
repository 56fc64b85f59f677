//! Kernels as PTX text. This build of the simulation reads none: every text is refused.

/// A module.
#[derive(Debug)]
pub struct Module {
    kernels: Vec<Kernel>,
}

/// A parameter of a kernel.
#[derive(Debug)]
pub struct Param {
    /// Where it lies among the parameters.
    pub offset: u32,
    /// How long it is.
    pub bytes: u32,
    /// Whether it may be an address.
    pub is_pointer_sized: bool,
}

/// A kernel.
#[derive(Debug)]
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// Its parameters.
    pub params: Vec<Param>,
}

/// Memory as kernels use it.
pub trait Memory {
    /// Reads a number.
    ///
    /// # Errors
    /// What is wrong with the address.
    fn load(&mut self, address: u64, bytes: u32) -> Result<u64, String>;
    /// Writes a number.
    ///
    /// # Errors
    /// What is wrong with the address.
    fn store(&mut self, address: u64, bytes: u32, value: u64) -> Result<(), String>;
}

impl Module {
    /// Its kernels.
    pub fn kernels(&self) -> impl Iterator<Item = &Kernel> {
        self.kernels.iter()
    }
}

impl Kernel {
    /// Runs all threads.
    ///
    /// # Errors
    /// What is wrong with what it does.
    pub fn run(&self, _: [u32; 3], _: [u32; 3], _: u32, _: &[u8], _: &mut dyn Memory) -> Result<(), String> {
        Err(format!("kernel {} is not run by this build", self.name))
    }
}

/// Reads a module.
///
/// # Errors
/// Why it cannot be read.
pub fn parse(_: &str) -> Result<Module, String> {
    Err("this build of the simulation reads no PTX".to_owned())
}
