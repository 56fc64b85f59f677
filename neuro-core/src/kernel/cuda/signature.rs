//! Parameters of a kernel, as CUDA C writes them.
//!
//! A pointer to something constant is one that the kernel only reads through. A launch believes that: what a kernel does in truth
//! is its author's promise.
//!
//! Absent on purpose: structures and pointers to pointers, whose layout only the compiler knows, and names of types that a source
//! defines itself: who uses those gives a signature in which they have their plain names.

use std::fmt;

use super::tokens::{Token, tokens};
use crate::dtype::DType;
use crate::error::{Error, Result};

/// A parameter of a kernel.
///
/// # Examples
/// ```
/// use neuro_core::DType;
/// use neuro_core::cuda::{Parameter, ParameterKind};
///
/// let parameters = Parameter::parse_list("const float* __restrict__ x, __half *y, unsigned n")?;
/// assert_eq!(parameters[0].kind, ParameterKind::Pointer { dtype: Some(DType::F32), writes: false });
/// assert_eq!(parameters[1].kind, ParameterKind::Pointer { dtype: Some(DType::F16), writes: true });
/// assert_eq!(parameters[2].to_string(), "unsigned int n");
/// # Ok::<(), neuro_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parameter {
    /// Its name; empty where it has none.
    pub name: String,
    /// What it is.
    pub kind: ParameterKind,
}

/// What a parameter of a kernel is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParameterKind {
    /// The address of a tensor's first element.
    Pointer {
        /// Type of the elements; `None`: any (`void*`).
        dtype: Option<DType>,
        /// Whether the kernel may write through it: whether it is not `const`.
        writes: bool,
    },
    /// A number.
    Scalar(DType),
}

/// Names of types, and what they are on a 64-bit Linux. Words of several are in one order; any is understood.
const TYPES: [(&str, DType); 41] = [
    // The first of each type is the one that is printed.
    ("bool", DType::Bool),
    ("unsigned char", DType::U8),
    ("unsigned short", DType::U16),
    ("unsigned int", DType::U32),
    ("unsigned long long", DType::U64),
    ("signed char", DType::I8),
    ("short", DType::I16),
    ("int", DType::I32),
    ("long long", DType::I64),
    ("__half", DType::F16),
    ("__nv_bfloat16", DType::BF16),
    ("float", DType::F32),
    ("double", DType::F64),
    ("cuFloatComplex", DType::C64),
    ("cuDoubleComplex", DType::C128),
    ("_Bool", DType::Bool),
    ("char", DType::I8),
    ("signed short", DType::I16),
    ("signed", DType::I32),
    ("signed int", DType::I32),
    ("long", DType::I64),
    ("signed long", DType::I64),
    ("signed long long", DType::I64),
    ("unsigned", DType::U32),
    ("unsigned long", DType::U64),
    ("int8_t", DType::I8),
    ("int16_t", DType::I16),
    ("int32_t", DType::I32),
    ("int64_t", DType::I64),
    ("uint8_t", DType::U8),
    ("uint16_t", DType::U16),
    ("uint32_t", DType::U32),
    ("uint64_t", DType::U64),
    ("size_t", DType::U64),
    ("uintptr_t", DType::U64),
    ("ptrdiff_t", DType::I64),
    ("intptr_t", DType::I64),
    ("half", DType::F16),
    ("nv_bfloat16", DType::BF16),
    ("cuComplex", DType::C64),
    ("float16_t", DType::F16),
];

/// Words of which names of types are made, in the order of [`TYPES`].
const SPECIFIERS: [&str; 9] = [
    "signed", "unsigned", "char", "short", "long", "int", "float", "double", "bool",
];

/// What says nothing of how a parameter is passed.
const QUALIFIERS: [&str; 6] = [
    "volatile",
    "__restrict__",
    "__restrict",
    "restrict",
    "__grid_constant__",
    "register",
];

impl Parameter {
    /// Parses what stands between the parentheses of a kernel's declaration.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with what is not understood, and what would be.
    pub fn parse_list(text: &str) -> Result<Vec<Self>> {
        list(&tokens(text)).map_err(|what| Error::InvalidArgument {
            op: "cuda::signature",
            what: format!("{what} (in {text:?})"),
        })
    }
}

impl ParameterKind {
    /// Name of the type in CUDA C.
    fn c_name(self) -> &'static str {
        let (Self::Scalar(dtype) | Self::Pointer { dtype: Some(dtype), .. }) = self else {
            return "void";
        };
        TYPES
            .iter()
            .find(|(_, of)| *of == dtype)
            .map_or("void", |(name, _)| name)
    }
}

/// As in C.
impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = if self.name.is_empty() { "" } else { " " };
        let (before, after) = match self.kind {
            ParameterKind::Pointer { writes: false, .. } => ("const ", "*"),
            ParameterKind::Pointer { writes: true, .. } => ("", "*"),
            ParameterKind::Scalar(_) => ("", ""),
        };
        write!(f, "{before}{}{after}{space}{}", self.kind.c_name(), self.name)
    }
}

/// The parameters of a list without its parentheses.
///
/// # Errors
/// What is not understood.
pub(super) fn list(tokens: &[Token<'_>]) -> Result<Vec<Parameter>, String> {
    if tokens.is_empty() || tokens == [Token::Word("void")] {
        return Ok(Vec::new());
    }
    let pieces = tokens.split(|token| *token == Token::Mark(','));
    let parse = |(number, piece): (usize, &[Token<'_>])| {
        one(piece).map_err(|what| format!("parameter {} ({}): {what}", number + 1, text_of(piece)))
    };
    pieces.enumerate().map(parse).collect()
}

fn one(tokens: &[Token<'_>]) -> Result<Parameter, String> {
    let (mut words, mut name) = (Vec::new(), None);
    let (mut stars, mut constant) = (0, false);
    let mut rest = tokens.iter().copied().peekable();
    while let Some(token) = rest.next() {
        match token {
            // Of the pointer itself it says nothing to the caller.
            Token::Word("const") => constant |= stars == 0,
            Token::Word(word) if QUALIFIERS.contains(&word) => {}
            Token::Word("struct" | "class" | "union" | "enum") => {
                return Err("a structure; its layout is the compiler's to know".to_owned());
            }
            Token::Word("std" | "cuda") if rest.peek() == Some(&Token::Mark(':')) => {}
            Token::Mark(':') if rest.next_if_eq(&Token::Mark(':')).is_some() => {}
            Token::Mark('*') if name.is_none() => stars += 1,
            Token::Word(word) if stars == 0 && goes_on(&words, word) => words.push(word),
            Token::Word(word) if name.is_none() && !word.starts_with(|first: char| first.is_ascii_digit()) => {
                name = Some(word);
            }
            Token::Mark('[') => return Err("an array; write it as a pointer, as float* x".to_owned()),
            Token::Mark('&') => return Err("a reference; a kernel is given numbers and pointers only".to_owned()),
            Token::Mark('<') => return Err("a template; its size is the compiler's to know".to_owned()),
            Token::Mark('=') => return Err("a default; every argument is given at a launch".to_owned()),
            other => return Err(format!("{} is not understood here", text_of(&[other]))),
        }
    }
    if stars > 1 {
        return Err("a pointer to pointers; pass one tensor for each".to_owned());
    }
    let dtype = match words.as_slice() {
        [] => return Err(format!("there is no type; {}", understood())),
        ["void"] if stars == 1 => None,
        _ => Some(
            dtype_of(&words)
                .ok_or_else(|| format!("the type {:?} is not understood; {}", words.join(" "), understood()))?,
        ),
    };
    let kind = match (stars, dtype) {
        (1, dtype) => ParameterKind::Pointer {
            dtype,
            writes: !constant,
        },
        (_, Some(dtype)) => ParameterKind::Scalar(dtype),
        (_, None) => return Err(format!("there is no type; {}", understood())),
    };
    let name = name.unwrap_or_default().to_owned();
    Ok(Parameter { name, kind })
}

/// Whether a word is of the type that begins with `words`, and not the parameter's name.
fn goes_on(words: &[&str], word: &str) -> bool {
    words.is_empty() || words.iter().chain([&word]).all(|word| SPECIFIERS.contains(word))
}

fn dtype_of(words: &[&str]) -> Option<DType> {
    let place = |word: &&str| SPECIFIERS.iter().position(|specifier| specifier == word);
    let mut sorted = words.to_vec();
    sorted.sort_by_key(place);
    // `long int` is `long`.
    if sorted.len() > 1 && sorted.last() == Some(&"int") && sorted.iter().any(|word| matches!(*word, "short" | "long"))
    {
        sorted.pop();
    }
    let name = sorted.join(" ");
    TYPES.iter().find(|(known, _)| *known == name).map(|(_, dtype)| *dtype)
}

fn understood() -> String {
    let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
    format!("understood are {}, pointers to them, and void*", names.join(", "))
}

/// Roughly what was written, for messages.
fn text_of(tokens: &[Token<'_>]) -> String {
    let words = tokens.iter().map(|token| match token {
        Token::Word(word) => (*word).to_owned(),
        Token::Mark(mark) => mark.to_string(),
        Token::Text(text) => format!("{text:?}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(all(test, not(loom)))]
mod tests;
