//! Operands of instructions: parsed from tokens, then resolved to registers.

use super::code::{Guard, SINK};
use super::lex::{Cursor, Token};
use super::number::Number;
use super::scope::{Scopes, Symbol};
use super::types::{Kind, Type};

/// An operand as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand<'t> {
    /// A register or a symbol, with what is added to it.
    Name(&'t str, i64),
    Number(Number),
    /// `!%p`.
    Not(&'t str),
    /// `[base + offset]`.
    Address(Box<Operand<'t>>),
    /// `{a, b}`.
    Vector(Vec<Operand<'t>>),
    /// `%p|%q`.
    Pair(&'t str, &'t str),
}

/// Why an instruction was not decoded.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It may be right, but is not supported: an error when it is reached.
    Unsupported,
    /// The text is wrong.
    Wrong(String),
}

impl From<String> for Refusal {
    fn from(what: String) -> Self {
        Self::Wrong(what)
    }
}

/// All operands up to the end of `cursor`.
pub(super) fn parse<'t>(mut cursor: Cursor<'_, 't>) -> Result<Vec<Operand<'t>>, String> {
    let mut operands = Vec::new();
    if cursor.peek().is_none() {
        return Ok(operands);
    }
    loop {
        operands.push(operand(&mut cursor)?);
        if cursor.peek().is_none() {
            return Ok(operands);
        }
        cursor.expect(b',')?;
    }
}

fn operand<'t>(cursor: &mut Cursor<'_, 't>) -> Result<Operand<'t>, String> {
    if cursor.take(b'{') {
        let mut parts = vec![simple(cursor)?];
        while cursor.take(b',') {
            parts.push(simple(cursor)?);
        }
        cursor.expect(b'}')?;
        return Ok(Operand::Vector(parts));
    }
    if cursor.take(b'[') {
        let inside = simple(cursor)?;
        cursor.expect(b']')?;
        return Ok(Operand::Address(Box::new(inside)));
    }
    if cursor.take(b'!') {
        return Ok(Operand::Not(cursor.word()?));
    }
    simple(cursor)
}

/// A name with an offset, a number, or a pair.
fn simple<'t>(cursor: &mut Cursor<'_, 't>) -> Result<Operand<'t>, String> {
    let negative = cursor.take(b'-');
    let word = cursor.word()?;
    if let Some(number) = Number::of(word) {
        return Ok(Operand::Number(if negative { number.negated() } else { number }));
    }
    if negative {
        return cursor.error(format_args!("`{word}` is no number, and stands behind `-`"));
    }
    if cursor.take(b'|') {
        return Ok(Operand::Pair(word, cursor.word()?));
    }
    let offset = match cursor.peek() {
        Some(Token::Sign(b'+')) => {
            cursor.take(b'+');
            let negative = cursor.take(b'-');
            integer(cursor, negative)?
        }
        Some(Token::Sign(b'-')) => {
            cursor.take(b'-');
            integer(cursor, true)?
        }
        _ => 0,
    };
    Ok(Operand::Name(word, offset))
}

fn integer(cursor: &mut Cursor<'_, '_>, negative: bool) -> Result<i64, String> {
    let word = cursor.word()?;
    match Number::of(word) {
        Some(Number::Int(value)) => Ok(if negative {
            value.wrapping_neg().cast_signed()
        } else {
            value.cast_signed()
        }),
        _ => cursor.error(format_args!("`{word}` is no whole number")),
    }
}

impl Scopes<'_> {
    fn named(&mut self, name: &str) -> Result<u32, Refusal> {
        match self.find_register(name)? {
            Some(register) => Ok(register),
            // Such as %clock: special registers that are not supported.
            None if name.starts_with('%') && name.contains("clock") => Err(Refusal::Unsupported),
            None => Err(Refusal::Wrong(format!("{name} is not declared"))),
        }
    }

    /// The register that an instruction writes.
    pub(super) fn target(&mut self, operand: &Operand<'_>) -> Result<u32, Refusal> {
        match *operand {
            Operand::Name("_", 0) => Ok(SINK),
            Operand::Name(name, 0) => match self.named(name)? {
                special if self.specials.iter().any(|&(register, _)| register == special) => {
                    Err(Refusal::Wrong(format!("{name} cannot be written")))
                }
                register => Ok(register),
            },
            _ => Err(Refusal::Unsupported),
        }
    }

    /// A register that holds what an instruction reads as a value of type `ty`.
    pub(super) fn source(&mut self, operand: &Operand<'_>, ty: Type) -> Result<u32, Refusal> {
        match *operand {
            Operand::Number(number) => {
                let bits = number
                    .bits(ty)
                    .ok_or_else(|| "a number with a point where a whole one belongs".to_string())?;
                Ok(self.constant(bits)?)
            }
            Operand::Name(name, offset) => match self.find_symbol(name) {
                Some(symbol) => self.address_of(symbol, offset),
                None if offset == 0 => self.named(name),
                None => Err(Refusal::Unsupported),
            },
            _ => Err(Refusal::Unsupported),
        }
    }

    fn address_of(&mut self, symbol: Symbol, offset: i64) -> Result<u32, Refusal> {
        let base = match symbol {
            Symbol::Foreign => return Err(Refusal::Unsupported),
            Symbol::DynamicShared => return Ok(self.dynamic_address(offset.cast_unsigned())?),
            Symbol::Param(at) | Symbol::Shared(at) | Symbol::Local(at) => u64::from(at),
            Symbol::Data(at) => at,
        };
        Ok(self.constant(base.wrapping_add_signed(offset))?)
    }

    /// The register and the offset of an address.
    pub(super) fn address(&mut self, operand: &Operand<'_>) -> Result<(u32, i64), Refusal> {
        let Operand::Address(inside) = operand else {
            return Err(Refusal::Unsupported);
        };
        let wide = Type {
            kind: Kind::Bits,
            bits: 64,
        };
        match **inside {
            Operand::Name(name, offset) => Ok((self.source(&Operand::Name(name, 0), wide)?, offset)),
            Operand::Number(_) => Ok((self.source(inside, wide)?, 0)),
            _ => Err(Refusal::Unsupported),
        }
    }

    /// A predicate that an instruction reads, perhaps negated, perhaps a constant.
    pub(super) fn predicate(&mut self, operand: &Operand<'_>) -> Result<Guard, Refusal> {
        match *operand {
            Operand::Not(name) => Ok(Guard {
                register: self.named(name)?,
                negated: true,
            }),
            Operand::Name(name, 0) => Ok(Guard {
                register: self.named(name)?,
                negated: false,
            }),
            Operand::Number(Number::Int(value)) => Ok(Guard {
                register: self.constant(u64::from(value != 0))?,
                negated: false,
            }),
            _ => Err(Refusal::Unsupported),
        }
    }
}
