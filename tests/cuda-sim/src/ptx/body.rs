//! The body of a kernel: declarations, labels, nested scopes and instructions to decoded code.

use std::collections::HashMap;

use super::code::{Guard, Inst, Op};
use super::lex::{Cursor, Token};
use super::operand::{Operand, Refusal};
use super::scope::{Scopes, Symbol};
use super::types::Type;
use super::{decode, operand, variable};

/// A decoded body.
#[derive(Debug)]
pub(super) struct Body<'t> {
    pub(super) code: Vec<Inst>,
    pub(super) scopes: Scopes<'t>,
    /// One for each open scope.
    labels: Vec<Labels<'t>>,
}

/// The labels of a scope, and the branches that wait for one.
#[derive(Debug, Default)]
struct Labels<'t> {
    known: HashMap<&'t str, u32>,
    /// Lists of labels that `brx.idx` chooses from.
    tables: HashMap<&'t str, Vec<&'t str>>,
    waiting: Vec<Jump<'t>>,
}

/// A branch whose target is not known yet: the instruction, and the place in its list for a choice of several.
#[derive(Debug)]
struct Jump<'t> {
    from: usize,
    slot: usize,
    to: &'t str,
    line: u32,
}

/// Parses a body in braces.
pub(super) fn parse<'t>(cursor: &mut Cursor<'_, 't>, scopes: Scopes<'t>) -> Result<Body<'t>, String> {
    let mut body = Body {
        code: Vec::new(),
        scopes,
        labels: Vec::new(),
    };
    cursor.expect(b'{')?;
    body.open();
    while !body.labels.is_empty() {
        let line = cursor.line();
        match cursor.peek() {
            None => return cursor.error("the text ends inside a kernel"),
            Some(Token::Sign(b'{')) => {
                cursor.expect(b'{')?;
                body.open();
            }
            Some(Token::Sign(b'}')) => {
                cursor.expect(b'}')?;
                body.close()?;
            }
            Some(Token::Sign(b';')) => cursor.expect(b';')?,
            Some(Token::Word(word)) if word.starts_with('.') => {
                cursor.next()?;
                body.directive(cursor, word, line)?;
            }
            Some(_) => body.labelled(cursor)?,
        }
    }
    body.scopes.finish();
    Ok(body)
}

impl<'t> Body<'t> {
    fn open(&mut self) {
        self.scopes.open();
        self.labels.push(Labels::default());
    }

    /// Ends a scope: branches to its labels are settled, others wait for the scope around it.
    fn close(&mut self) -> Result<(), String> {
        self.scopes.close();
        let Some(Labels { known, waiting, .. }) = self.labels.pop() else {
            return Ok(());
        };
        if self.labels.is_empty() {
            // What runs past the end, and labels there, find this.
            self.code.push(Inst {
                guard: None,
                line: 0,
                op: Op::Exit,
            });
        }
        for jump in waiting {
            match (known.get(jump.to), self.labels.last_mut()) {
                (Some(&at), _) => match self.code.get_mut(jump.from).map(|inst| &mut inst.op) {
                    Some(Op::Branch { to }) => *to = at,
                    Some(Op::Switch { to, .. }) => to[jump.slot] = at,
                    _ => {}
                },
                (None, Some(outer)) => outer.waiting.push(jump),
                (None, None) => return Err(format!("line {}: there is no label {}", jump.line, jump.to)),
            }
        }
        Ok(())
    }

    fn directive(&mut self, cursor: &mut Cursor<'_, 't>, word: &str, line: u32) -> Result<(), String> {
        if matches!(word, ".loc" | ".file") {
            cursor.skip_line(line);
            return Ok(());
        }
        let mut statement = cursor.statement()?;
        match word {
            ".reg" => self.registers(&mut statement),
            ".shared" | ".local" => {
                let declared = variable::parse(&mut statement)?;
                if word == ".shared" && declared.bytes == 0 {
                    self.scopes.symbol(declared.name, Symbol::DynamicShared);
                    return Ok(());
                }
                let placed = self
                    .scopes
                    .variable(declared.name, word == ".shared", declared.bytes, declared.align);
                placed.or_else(|what| statement.error(what))
            }
            ".param" | ".global" | ".const" => {
                self.scopes
                    .symbol(variable::parse(&mut statement)?.name, Symbol::Foreign);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn registers(&mut self, statement: &mut Cursor<'_, 't>) -> Result<(), String> {
        let name = statement.word()?;
        // Registers of types that are not supported hold 64 bits; what works with them is refused anyway.
        let ty = Type::of(name.trim_start_matches('.')).or(Type::of("b64"));
        let Some(ty) = ty else {
            return statement.error("no type");
        };
        loop {
            let name = statement.word()?;
            if name.starts_with('.') {
                continue;
            }
            let count = if statement.take(b'<') {
                let count = variable::whole(statement)?;
                statement.expect(b'>')?;
                Some(count)
            } else {
                None
            };
            self.scopes
                .registers(name, count, ty)
                .or_else(|what| statement.error(what))?;
            if statement.peek().is_none() {
                return Ok(());
            }
            statement.expect(b',')?;
        }
    }

    /// A label, or an instruction.
    fn labelled(&mut self, cursor: &mut Cursor<'_, 't>) -> Result<(), String> {
        let mut ahead = *cursor;
        if let Token::Word(name) = ahead.next()?
            && ahead.take(b':')
        {
            *cursor = ahead;
            let here = self.here()?;
            if let Some(Token::Word(".branchtargets")) = cursor.peek() {
                let mut list = cursor.statement()?;
                list.next()?;
                let mut targets = vec![list.word()?];
                while list.take(b',') {
                    targets.push(list.word()?);
                }
                self.inner()?.tables.insert(name, targets);
            } else if self.inner()?.known.insert(name, here).is_some() {
                return cursor.error(format_args!("label {name} stands here a second time"));
            }
            return Ok(());
        }
        self.instruction(cursor)
    }

    fn here(&self) -> Result<u32, String> {
        u32::try_from(self.code.len()).map_err(|_| "too many instructions".to_string())
    }

    fn inner(&mut self) -> Result<&mut Labels<'t>, String> {
        self.labels.last_mut().ok_or_else(|| "no scope is open".to_string())
    }

    fn instruction(&mut self, cursor: &mut Cursor<'_, 't>) -> Result<(), String> {
        let line = cursor.line();
        let at_line = |what: String| format!("line {line}: {what}");
        let guard = if cursor.take(b'@') {
            let negated = cursor.take(b'!');
            let name = cursor.word()?;
            let register = self.scopes.find_register(name).map_err(at_line)?;
            let register = register.ok_or_else(|| at_line(format!("{name} is not declared")))?;
            Some(Guard { register, negated })
        } else {
            None
        };
        let opcode = cursor.word()?;
        let statement = cursor.statement()?;
        let unknown = || Op::Unknown(format!("{opcode} {}", statement.text()).into());
        let op = if decode::is_known(opcode) {
            let operands = operand::parse(statement)?;
            match self.decode(opcode, &operands, line) {
                Ok(op) => op,
                Err(Refusal::Unsupported) => unknown(),
                Err(Refusal::Wrong(what)) => return Err(format!("line {line}: {opcode}: {what}")),
            }
        } else {
            unknown()
        };
        self.code.push(Inst { guard, line, op });
        Ok(())
    }

    fn decode(&mut self, opcode: &str, operands: &[Operand<'t>], line: u32) -> Result<Op, Refusal> {
        let from = self.code.len();
        match (opcode, operands) {
            ("bra" | "bra.uni", &[Operand::Name(to, 0)]) => {
                self.inner()?.waiting.push(Jump {
                    from,
                    slot: 0,
                    to,
                    line,
                });
                Ok(Op::Branch { to: 0 })
            }
            ("brx.idx" | "brx.idx.uni", [index, Operand::Name(table, 0)]) => {
                let index = self.scopes.source(
                    index,
                    Type {
                        kind: super::types::Kind::Unsigned,
                        bits: 32,
                    },
                )?;
                let targets = self
                    .labels
                    .iter()
                    .rev()
                    .find_map(|labels| labels.tables.get(table))
                    .cloned();
                let targets = targets.ok_or_else(|| format!("there is no list of labels {table}"))?;
                let to = vec![0; targets.len()].into();
                let jumps = targets.into_iter().enumerate();
                self.inner()?
                    .waiting
                    .extend(jumps.map(|(slot, to)| Jump { from, slot, to, line }));
                Ok(Op::Switch { index, to })
            }
            _ => decode::decode(&mut self.scopes, opcode, operands),
        }
    }
}
