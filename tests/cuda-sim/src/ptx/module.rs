//! A module: its variables and its kernels. Device functions and debug sections are stepped over.

use std::collections::HashMap;
use std::sync::Arc;

use super::lex::{Cursor, Token, lex};
use super::scope::{Scopes, Symbol};
use super::{Kernel, Param, body, scope, space, variable};

/// What was declared so far.
#[derive(Default)]
struct Draft<'t> {
    symbols: HashMap<&'t str, Symbol>,
    data: Vec<u8>,
    shared_bytes: u32,
    kernels: Vec<Kernel>,
}

/// The kernels of the module.
pub(super) fn parse(text: &str) -> Result<Vec<Kernel>, String> {
    let tokens = lex(text)?;
    let mut cursor = Cursor::new(&tokens);
    let mut draft = Draft::default();
    while cursor.peek().is_some() {
        item(&mut cursor, &mut draft)?;
    }
    let data: Arc<[u8]> = draft.data.into();
    for kernel in &mut draft.kernels {
        kernel.data = Arc::clone(&data);
    }
    Ok(draft.kernels)
}

fn item<'t>(cursor: &mut Cursor<'_, 't>, draft: &mut Draft<'t>) -> Result<(), String> {
    let line = cursor.line();
    match cursor.word()? {
        ".version" | ".target" | ".address_size" | ".file" | ".loc" => cursor.skip_line(line),
        ".visible" | ".extern" | ".weak" | ".common" => {}
        ".entry" => entry(cursor, draft)?,
        ".func" => function(cursor)?,
        directive @ (".global" | ".const" | ".shared") => declaration(cursor, draft, directive)?,
        ".section" => {
            cursor.word()?;
            cursor.skip_braces()?;
        }
        ".pragma" | ".alias" | ".tex" => drop(cursor.statement()?),
        other => return Err(format!("line {line}: `{other}` has no place outside of a kernel")),
    }
    Ok(())
}

/// Steps over a function: its head, and its body if it has one.
fn function(cursor: &mut Cursor<'_, '_>) -> Result<(), String> {
    loop {
        if cursor.peek() == Some(Token::Sign(b'{')) {
            return cursor.skip_braces();
        }
        if cursor.next()? == Token::Sign(b';') {
            return Ok(());
        }
    }
}

fn declaration<'t>(cursor: &mut Cursor<'_, 't>, draft: &mut Draft<'t>, directive: &str) -> Result<(), String> {
    let mut statement = cursor.statement()?;
    let declared = variable::parse(&mut statement)?;
    let symbol = match directive {
        ".shared" if declared.bytes == 0 => Symbol::DynamicShared,
        ".shared" => {
            let offset = draft.shared_bytes.next_multiple_of(declared.align);
            draft.shared_bytes = match offset.checked_add(declared.bytes) {
                Some(end) if end <= scope::MAX_SHARED => end,
                _ => return statement.error(format_args!("{} needs too much shared memory", declared.name)),
            };
            Symbol::Shared(offset)
        }
        _ if statement.take(b'=') => match variable::initial(statement, &declared) {
            Some(bytes) => {
                draft
                    .data
                    .resize(draft.data.len().next_multiple_of(declared.align as usize), 0);
                let address = space::DATA + draft.data.len() as u64;
                draft.data.extend_from_slice(&bytes);
                Symbol::Data(address)
            }
            None => Symbol::Foreign,
        },
        _ => Symbol::Foreign,
    };
    draft.symbols.insert(declared.name, symbol);
    Ok(())
}

fn entry<'t>(cursor: &mut Cursor<'_, 't>, draft: &mut Draft<'t>) -> Result<(), String> {
    let name = cursor.word()?;
    let mut symbols = draft.symbols.clone();
    let (mut params, mut end) = (Vec::new(), 0u32);
    if cursor.take(b'(') && !cursor.take(b')') {
        loop {
            let line = cursor.line();
            if cursor.word()? != ".param" {
                return Err(format!("line {line}: expected `.param`"));
            }
            let declared = variable::parse(cursor)?;
            if declared.element.is_none() {
                return cursor.error(format_args!(
                    "the type of the parameter {} is not supported",
                    declared.name
                ));
            }
            let offset = end.next_multiple_of(declared.align);
            // The limit of CUDA is 32764 bytes.
            end = match offset.checked_add(declared.bytes) {
                Some(end) if end <= 1 << 15 => end,
                _ => return cursor.error(format_args!("kernel {name} has more parameters than fit")),
            };
            symbols.insert(declared.name, Symbol::Param(offset));
            params.push(Param {
                offset,
                bytes: declared.bytes,
                is_pointer_sized: declared.is_pointer_sized,
            });
            if cursor.take(b')') {
                break;
            }
            cursor.expect(b',')?;
        }
    }
    // Bounds of the launch, which a simulated device does not need.
    while cursor.peek() != Some(Token::Sign(b'{')) {
        if cursor.next()? == Token::Sign(b';') {
            return Ok(());
        }
    }
    let body = body::parse(cursor, Scopes::new(symbols, draft.shared_bytes))?;
    draft.kernels.push(Kernel {
        name: name.to_string(),
        params,
        code: body.code,
        template: body.scopes.template,
        specials: body.scopes.specials,
        shared_bytes: body.scopes.shared_bytes,
        local_bytes: body.scopes.local_bytes,
        data: Arc::from([]),
    });
    Ok(())
}
