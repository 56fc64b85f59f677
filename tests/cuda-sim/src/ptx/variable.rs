//! Declarations of variables and parameters: `.align 4 .b8 name[16] = {…}`.

use super::lex::{Cursor, Token};
use super::number::Number;
use super::types::{Kind, Type};

/// The greatest alignment that is accepted.
const MAX_ALIGN: u32 = 1 << 12;

/// A declared variable.
#[derive(Debug)]
pub(super) struct Variable<'t> {
    pub(super) name: &'t str,
    pub(super) align: u32,
    /// The type of an element; `None` for types that are not supported.
    pub(super) element: Option<Type>,
    /// Its size; 0 for an array without one.
    pub(super) bytes: u32,
    /// A scalar of 64 bits that is no floating-point number.
    pub(super) is_pointer_sized: bool,
}

/// Parses what follows the directive of the space, up to the name and its dimensions.
pub(super) fn parse<'t>(cursor: &mut Cursor<'_, 't>) -> Result<Variable<'t>, String> {
    let (mut element, mut lanes, mut align, mut pointer_align) = (None, 1, None, false);
    let name = loop {
        let word = cursor.word()?;
        let Some(attribute) = word.strip_prefix('.') else {
            break word;
        };
        match attribute {
            "align" => {
                let value = whole(cursor)?;
                if !value.is_power_of_two() || value > MAX_ALIGN {
                    return cursor.error(format_args!("an alignment of {value}"));
                }
                // Behind `.ptr` it is the alignment of what the parameter points to.
                if !pointer_align {
                    align = Some(value);
                }
            }
            "ptr" => pointer_align = true,
            "v2" => lanes = 2,
            "v4" => lanes = 4,
            "attribute" => while cursor.next()? != Token::Sign(b')') {},
            _ => element = element.or(Type::of(attribute)),
        }
    };
    let (mut count, mut array) = (1u32, false);
    while cursor.take(b'[') {
        let length = if cursor.peek() == Some(Token::Sign(b']')) {
            0
        } else {
            whole(cursor)?
        };
        cursor.expect(b']')?;
        let Some(product) = count.checked_mul(length) else {
            return cursor.error("an array that is too large");
        };
        (count, array) = (product, true);
    }
    let size = element.map_or(0, Type::bytes) * lanes;
    let Some(bytes) = size.checked_mul(count) else {
        return cursor.error("an array that is too large");
    };
    let is_pointer_sized = !array && size == 8 && lanes == 1 && element.is_some_and(|ty| ty.kind != Kind::Float);
    Ok(Variable {
        name,
        align: align.unwrap_or(size.next_power_of_two()),
        element,
        bytes,
        is_pointer_sized,
    })
}

/// A whole number that fits into 32 bits.
pub(super) fn whole(cursor: &mut Cursor<'_, '_>) -> Result<u32, String> {
    let word = cursor.word()?;
    match Number::of(word) {
        Some(Number::Int(value)) if u32::try_from(value).is_ok() => Ok(value as u32),
        _ => cursor.error(format_args!("`{word}` is no whole number of 32 bits")),
    }
}

/// The bytes of an initial value, whose `=` was stepped over; `None` where it is more than numbers.
pub(super) fn initial(mut value: Cursor<'_, '_>, variable: &Variable<'_>) -> Option<Vec<u8>> {
    let ty = variable.element?;
    let (mut bytes, mut negative) = (Vec::new(), false);
    while let Ok(token) = value.next() {
        match token {
            Token::Sign(b'-') => negative = true,
            Token::Sign(b'{' | b'}' | b',') => {}
            Token::Word(word) => {
                let number = Number::of(word)?;
                let number = if negative { number.negated() } else { number };
                negative = false;
                bytes.extend_from_slice(&number.bits(ty)?.to_le_bytes()[..ty.bytes() as usize]);
            }
            _ => return None,
        }
    }
    let size = variable.bytes.max(u32::try_from(bytes.len()).ok()?);
    // Enough for tables of constants; keeps a wrong size from asking for the whole memory.
    (size <= 1 << 20).then(|| {
        bytes.resize(size as usize, 0);
        bytes
    })
}
