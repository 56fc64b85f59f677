//! Modules, functions, launches: what a kernel is given is looked at when it is launched, and what it does when it runs.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt;
use std::sync::Arc;

use races::{Clock, Event, Use};
use smallvec::SmallVec;

use crate::codes::{Answer, Code, ILLEGAL_ADDRESS, INVALID_PTX, INVALID_VALUE, NO_BINARY_FOR_GPU};
use crate::ptx;
use crate::ranges::Ranges;
use crate::space::{Found, Part};
use crate::state::State;
use crate::stream::Action;

/// A module that was read.
#[derive(Clone)]
pub(crate) struct Image(Arc<ptx::Module>);

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.kernels().map(|kernel| &kernel.name))
            .finish()
    }
}

impl Image {
    /// # Errors
    /// What `cuModuleLoadDataEx` answers, and why.
    pub(crate) fn read(bytes: &CStr) -> Result<Self, (Code, String)> {
        let text = bytes.to_str().unwrap_or_default();
        if !text.contains(".version") {
            return Err((NO_BINARY_FOR_GPU, "is no PTX".to_owned()));
        }
        let module = ptx::parse(text).map_err(|words| (INVALID_PTX, words))?;
        Ok(Self(Arc::new(module)))
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.0.kernels().position(|kernel| kernel.name == name)
    }

    fn kernel(&self, number: usize) -> Option<&ptx::Kernel> {
        self.0.kernels().nth(number)
    }
}

#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) device: u32,
    pub(crate) image: Image,
    /// The last launch of each stream.
    pub(crate) launches: SmallVec<[Event; 4]>,
}

#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) module: u32,
    pub(crate) kernel: usize,
    /// Bytes of shared memory that a launch may ask for.
    pub(crate) dynamic: u32,
}

/// That many bytes of shared memory a launch may ask for if nothing is said; and the most that the device has.
pub(crate) const PLAIN_SHARED: u32 = 48 << 10;
pub(crate) const MOST_SHARED: u32 = 227 << 10;

#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) image: Image,
    pub(crate) module: u32,
    pub(crate) kernel: usize,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared: u32,
    pub(crate) params: Vec<u8>,
}

impl Launch {
    fn is_possible(&self) -> bool {
        let threads: u64 = self.block.iter().map(|&n| u64::from(n)).product();
        let none = self.grid.iter().chain(&self.block).any(|&n| n == 0);
        !none
            && threads <= 1024
            && self.block[2] <= 64
            && self.grid[0] <= i32::MAX as u32
            && self.grid[1].max(self.grid[2]) <= 65535
            && self.shared <= MOST_SHARED
    }

    /// Copies the parameters from where the caller has them.
    ///
    /// # Safety
    /// `from` has an address for each parameter of the kernel, with as many readable bytes.
    pub(crate) unsafe fn take_params(&mut self, from: *const *mut std::ffi::c_void) -> Answer {
        let Some(kernel) = self.image.kernel(self.kernel) else {
            return Err(INVALID_VALUE);
        };
        for (number, param) in kernel.params.iter().enumerate() {
            if from.is_null() {
                return Err(INVALID_VALUE);
            }
            // SAFETY: forwarded contract.
            let source = unsafe { *from.add(number) };
            if source.is_null() {
                return Err(INVALID_VALUE);
            }
            let (start, len) = (param.offset as usize, param.bytes as usize);
            if self.params.len() < start + len {
                self.params.resize(start + len, 0);
            }
            // SAFETY: forwarded contract; the room was made above.
            unsafe { std::ptr::copy_nonoverlapping(source.cast::<u8>(), self.params[start..].as_mut_ptr(), len) };
        }
        Ok(())
    }

    /// Parameters that may be addresses.
    fn addresses(&self) -> Vec<u64> {
        let Some(kernel) = self.image.kernel(self.kernel) else {
            return Vec::new();
        };
        let pointers = kernel.params.iter().filter(|param| param.is_pointer_sized);
        let bytes = pointers.filter_map(|param| self.params.get(param.offset as usize..param.offset as usize + 8));
        bytes
            .filter_map(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)))
            .collect()
    }
}

impl State {
    /// Submits a launch.
    ///
    /// # Errors
    /// `INVALID_VALUE` for sizes that no device takes.
    pub(crate) fn launch(&mut self, call: &'static str, device: u32, stream: u32, launch: Launch) -> Answer {
        if !launch.is_possible() {
            return Err(INVALID_VALUE);
        }
        let mut used: Vec<Part> = Vec::new();
        for address in launch.addresses() {
            match self.space.find(address, 1) {
                Found::Known(parts) => {
                    for part in parts {
                        if !self.reaches(device, &part) {
                            let words = self.out_of_reach(call, device, address, &part);
                            self.finding(words);
                        }
                        used.push(part);
                    }
                }
                Found::Wrong(words) => self.finding(format!("{call}: a parameter: {words}")),
                Found::Pageable => {} // a number, for all that can be seen
            }
        }
        let module = launch.module;
        let (event, _) = self.submit(call, stream, None, Action::Launch(Box::new(launch)));
        for part in used {
            if let Some(piece) = self.space.pieces.get_mut(&part.piece) {
                piece.uses(event);
            }
        }
        if let Some(module) = self.modules.get_mut(module) {
            module.launches.retain(|other| other.actor != event.actor);
            module.launches.push(event);
        }
        self.now_and_then();
        Ok(())
    }

    /// Runs a kernel, and shows what it has read of others' and what it has written to the race check.
    pub(crate) fn run_kernel(&mut self, launch: &Launch, call: &'static str, device: u32, event: Event, clock: &Clock) {
        let Some(kernel) = launch.image.kernel(launch.kernel) else {
            return;
        };
        let mut view = View {
            state: self,
            device,
            used: BTreeMap::new(),
        };
        let outcome = kernel.run(launch.grid, launch.block, launch.shared, &launch.params, &mut view);
        let name = &kernel.name;
        for (piece, Used { read, written }) in view.used {
            let Some(kind) = self.space.pieces.get(&piece).map(|piece| piece.kind) else {
                continue;
            };
            for (ranges, how) in [(read, Use::Read), (written, Use::Write)] {
                let call = format!("{call} of {name}");
                for range in ranges.iter() {
                    let part = Part {
                        piece,
                        offset: range.start,
                        bytes: range.end - range.start,
                        kind,
                        access: 0,
                    };
                    self.touch(&call, &[part], how, event, clock);
                    self.note_use(&[part], event, how == Use::Write);
                }
            }
        }
        if let Err(words) = outcome {
            let event = self.event_words(event);
            self.finding(format!("{call} of {name}: {event}: {words}"));
            self.lose(ILLEGAL_ADDRESS);
        }
    }
}

#[derive(Default)]
struct Used {
    /// Read, and not written before by the same launch.
    read: Ranges,
    written: Ranges,
}

/// Memory as a kernel sees it.
struct View<'a> {
    state: &'a mut State,
    device: u32,
    used: BTreeMap<u32, Used>,
}

impl View<'_> {
    fn place(&self, address: u64, bytes: u32) -> Result<Part, String> {
        if bytes == 0 || bytes > 8 || !address.is_multiple_of(u64::from(bytes)) {
            return Err(format!("{bytes} B are used at {address:#x}, which is not aligned"));
        }
        match self.state.space.find(address, u64::from(bytes)) {
            Found::Known(parts) => match parts.first() {
                Some(part) if self.state.reaches(self.device, part) => Ok(*part),
                Some(part) => Err(self.state.out_of_reach("a kernel", self.device, address, part)),
                None => Err(format!("nothing lies at {address:#x}")),
            },
            Found::Pageable => Err(format!("wild pointer: {address:#x} is no memory that the driver knows")),
            Found::Wrong(words) => Err(words),
        }
    }
}

impl ptx::Memory for View<'_> {
    fn load(&mut self, address: u64, bytes: u32) -> Result<u64, String> {
        let part = self.place(address, bytes)?;
        let used = self.used.entry(part.piece).or_default();
        for range in used.written.missing(part.offset..part.offset + part.bytes) {
            if !used.read.contains(&range) {
                used.read.insert(range);
            }
        }
        let mut value = [0; 8];
        if !self.state.space.read(&[part], 0, &mut value[..bytes as usize]) {
            return Err(format!("memory of the host at {address:#x} is not there any more"));
        }
        Ok(u64::from_le_bytes(value))
    }

    fn store(&mut self, address: u64, bytes: u32, value: u64) -> Result<(), String> {
        let part = self.place(address, bytes)?;
        let used = self.used.entry(part.piece).or_default();
        used.written.insert(part.offset..part.offset + part.bytes);
        if !self
            .state
            .space
            .write(&[part], 0, &value.to_le_bytes()[..bytes as usize])
        {
            return Err(format!("memory of the host at {address:#x} is not there any more"));
        }
        Ok(())
    }
}
