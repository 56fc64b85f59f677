//! The names of a kernel body, by nested scope, and the registers that they and the constants occupy.

use std::collections::HashMap;

use super::code::Special;
use super::types::{Type, mask};

/// The most registers of one thread, and the most bytes of its local memory.
const MAX_REGISTERS: u32 = 1 << 16;
const MAX_LOCAL: u32 = 512 << 10;
/// The most bytes of shared memory of a block.
pub(super) const MAX_SHARED: u32 = 227 << 10;

/// What the name of a variable stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symbol {
    /// A parameter of the kernel, at this offset.
    Param(u32),
    /// Shared memory of fixed size.
    Shared(u32),
    /// Shared memory whose size the launch gives.
    DynamicShared,
    Local(u32),
    /// Initialised data of the module, at this address.
    Data(u64),
    /// Something that cannot be used: a parameter of a call, a writable variable of the module.
    Foreign,
}

#[derive(Debug, Default)]
struct Scope<'t> {
    registers: HashMap<&'t str, u32>,
    families: HashMap<&'t str, (u32, u32)>,
    symbols: HashMap<&'t str, Symbol>,
}

/// The names that are visible, innermost scope last, and the template of registers.
#[derive(Debug)]
pub(super) struct Scopes<'t> {
    scopes: Vec<Scope<'t>>,
    /// The width in bits of each register.
    widths: Vec<u32>,
    pub(super) template: Vec<u64>,
    pub(super) specials: Vec<(u32, Special)>,
    constants: HashMap<u64, u32>,
    /// Constants that are addresses of dynamic shared memory.
    dynamic: Vec<u32>,
    pub(super) shared_bytes: u32,
    pub(super) local_bytes: u32,
}

impl<'t> Scopes<'t> {
    /// With the names of the module and of the parameters.
    pub(super) fn new(symbols: HashMap<&'t str, Symbol>, shared_bytes: u32) -> Self {
        Self {
            scopes: vec![Scope {
                symbols,
                ..Scope::default()
            }],
            // ZERO and SINK.
            widths: vec![64, 64],
            template: vec![0, 0],
            specials: Vec::new(),
            constants: HashMap::from([(0, 0)]),
            dynamic: Vec::new(),
            shared_bytes,
            local_bytes: 0,
        }
    }

    pub(super) fn open(&mut self) {
        self.scopes.push(Scope::default());
    }

    pub(super) fn close(&mut self) {
        self.scopes.pop();
    }

    /// Declares `count` registers `name0`, `name1`, … or, without a count, one of this name.
    pub(super) fn registers(&mut self, name: &'t str, count: Option<u32>, ty: Type) -> Result<(), String> {
        let first = self.allot(count.unwrap_or(1), ty.bits, 0)?;
        let Some(scope) = self.scopes.last_mut() else {
            return Err("no scope is open".into());
        };
        match count {
            Some(count) => drop(scope.families.insert(name, (first, count))),
            None => drop(scope.registers.insert(name, first)),
        }
        Ok(())
    }

    fn allot(&mut self, count: u32, bits: u32, value: u64) -> Result<u32, String> {
        let first = u32::try_from(self.template.len()).unwrap_or(u32::MAX);
        let end = first.checked_add(count).filter(|&end| end <= MAX_REGISTERS);
        let end = end.ok_or_else(|| format!("more than {MAX_REGISTERS} registers and constants"))? as usize;
        self.template.resize(end, value);
        self.widths.resize(end, bits);
        Ok(first)
    }

    /// Declares a variable of the kernel in shared or local memory.
    pub(super) fn variable(&mut self, name: &'t str, shared: bool, bytes: u32, align: u32) -> Result<(), String> {
        let (used, most) = if shared {
            (&mut self.shared_bytes, MAX_SHARED)
        } else {
            (&mut self.local_bytes, MAX_LOCAL)
        };
        let offset = used.next_multiple_of(align);
        let end = offset.checked_add(bytes).filter(|&end| end <= most);
        *used = end.ok_or_else(|| format!("variable {name} needs more than the {most} bytes that there are"))?;
        self.symbol(
            name,
            if shared {
                Symbol::Shared(offset)
            } else {
                Symbol::Local(offset)
            },
        );
        Ok(())
    }

    pub(super) fn symbol(&mut self, name: &'t str, symbol: Symbol) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.symbols.insert(name, symbol);
        }
    }

    pub(super) fn find_symbol(&self, name: &str) -> Option<Symbol> {
        self.scopes
            .iter()
            .rev()
            .find_map(|scope| scope.symbols.get(name).copied())
    }

    /// The register of this name, special ones included.
    pub(super) fn find_register(&mut self, name: &str) -> Result<Option<u32>, String> {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let number: Option<u32> = name[stem.len()..].parse().ok();
        for scope in self.scopes.iter().rev() {
            if let Some(&register) = scope.registers.get(name) {
                return Ok(Some(register));
            }
            if let (Some(number), Some(&(first, count))) = (number, scope.families.get(stem)) {
                if number < count {
                    return Ok(Some(first + number));
                }
                return Err(format!("register {name} is not one of the {count} that are declared"));
            }
        }
        let Some(special) = Special::of(name) else {
            return Ok(None);
        };
        if let Some(&(register, _)) = self.specials.iter().find(|(_, known)| *known == special) {
            return Ok(Some(register));
        }
        let register = self.allot(1, 32, 0)?;
        self.specials.push((register, special));
        Ok(Some(register))
    }

    /// The bits that a register can hold.
    pub(super) fn keep(&self, register: u32) -> u64 {
        mask(self.widths.get(register as usize).copied().unwrap_or(64))
    }

    /// A register that holds `value`.
    pub(super) fn constant(&mut self, value: u64) -> Result<u32, String> {
        if let Some(&register) = self.constants.get(&value) {
            return Ok(register);
        }
        let register = self.allot(1, 64, value)?;
        self.constants.insert(value, register);
        Ok(register)
    }

    /// A register that holds the address of dynamic shared memory, plus `offset`.
    pub(super) fn dynamic_address(&mut self, offset: u64) -> Result<u32, String> {
        let register = self.allot(1, 64, offset)?;
        self.dynamic.push(register);
        Ok(register)
    }

    /// Places dynamic shared memory behind the fixed one; after the last declaration.
    pub(super) fn finish(&mut self) {
        self.shared_bytes = self.shared_bytes.next_multiple_of(16);
        for &register in &self.dynamic {
            if let Some(value) = self.template.get_mut(register as usize) {
                *value = value.wrapping_add(u64::from(self.shared_bytes));
            }
        }
    }
}
