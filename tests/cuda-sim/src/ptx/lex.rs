//! Text to tokens: words, quoted texts and signs, each with its line, comments left out.
//!
//! A word keeps its dots, so an operation with its qualifiers (`ld.global.v4.f32`), a special register (`%tid.x`) and a
//! directive (`.reg`) are one word each.

/// A token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'t> {
    /// A name, a number or an operation.
    Word(&'t str),
    /// A text in quotes.
    Text,
    /// Any other character.
    Sign(u8),
}

/// Tokens and a place among them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a, 't> {
    tokens: &'a [(Token<'t>, u32)],
    at: usize,
}

/// The tokens of `text` with their lines, counted from 1.
pub(super) fn lex(text: &str) -> Result<Vec<(Token<'_>, u32)>, String> {
    let bytes = text.as_bytes();
    let (mut tokens, mut line, mut at) = (Vec::new(), 1u32, 0);
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        if byte == b'\n' {
            line += 1;
            at += 1;
        } else if byte.is_ascii_whitespace() || byte == 0 {
            at += 1;
        } else if rest.starts_with(b"//") {
            at += rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
        } else if rest.starts_with(b"/*") {
            let end = rest.windows(2).skip(2).position(|two| two == b"*/");
            let length = end.ok_or_else(|| format!("line {line}: a comment does not end"))? + 4;
            line += lines(&rest[..length]);
            at += length;
        } else if byte == b'"' {
            let end = rest[1..].iter().position(|&b| b == b'"');
            let length = end.ok_or_else(|| format!("line {line}: a quoted text does not end"))? + 2;
            tokens.push((Token::Text, line));
            line += lines(&rest[..length]);
            at += length;
        } else if in_word(byte) {
            let length = word_length(rest);
            tokens.push((Token::Word(&text[at..at + length]), line));
            at += length;
        } else if byte.is_ascii_graphic() {
            tokens.push((Token::Sign(byte), line));
            at += 1;
        } else {
            return Err(format!("line {line}: the byte 0x{byte:02x} has no place in PTX"));
        }
    }
    Ok(tokens)
}

fn lines(bytes: &[u8]) -> u32 {
    bytes.iter().map(|&b| u32::from(b == b'\n')).sum()
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$' | b'%')
}

/// The bytes of the word that `bytes` begins with: `::` inside a qualifier and the sign of an exponent belong to it.
fn word_length(bytes: &[u8]) -> usize {
    let decimal = bytes[0].is_ascii_digit();
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        let before = bytes[at - 1];
        let exponent = decimal && matches!(byte, b'+' | b'-') && before == b'e' && bytes[..at].contains(&b'.');
        if in_word(byte) || exponent {
            at += 1;
        } else if bytes[at..].starts_with(b"::") && bytes.get(at + 2).is_some_and(|&b| in_word(b)) {
            at += 2;
        } else {
            break;
        }
    }
    at
}

impl<'a, 't> Cursor<'a, 't> {
    pub(super) fn new(tokens: &'a [(Token<'t>, u32)]) -> Self {
        Self { tokens, at: 0 }
    }

    pub(super) fn peek(&self) -> Option<Token<'t>> {
        self.tokens.get(self.at).map(|&(token, _)| token)
    }

    /// The line of the next token, or of the last one.
    pub(super) fn line(&self) -> u32 {
        self.tokens
            .get(self.at)
            .or(self.tokens.last())
            .map_or(1, |&(_, line)| line)
    }

    /// An error at this place.
    pub(super) fn error<T>(&self, what: impl std::fmt::Display) -> Result<T, String> {
        Err(format!("line {}: {what}", self.line()))
    }

    pub(super) fn next(&mut self) -> Result<Token<'t>, String> {
        let Some(token) = self.peek() else {
            return self.error("the text ends too early");
        };
        self.at += 1;
        Ok(token)
    }

    /// Steps over `sign` if it is next.
    pub(super) fn take(&mut self, sign: u8) -> bool {
        let found = self.peek() == Some(Token::Sign(sign));
        self.at += usize::from(found);
        found
    }

    /// Steps over `sign`, which must be next.
    pub(super) fn expect(&mut self, sign: u8) -> Result<(), String> {
        match self.peek() {
            Some(Token::Sign(found)) if found == sign => {
                self.at += 1;
                Ok(())
            }
            Some(found) => self.error(format_args!("expected `{}`, found {}", char::from(sign), found.show())),
            None => self.error(format_args!("the text ends where `{}` should stand", char::from(sign))),
        }
    }

    /// The next token, which must be a word.
    pub(super) fn word(&mut self) -> Result<&'t str, String> {
        match self.peek() {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            Some(found) => self.error(format_args!("expected a name, found {}", found.show())),
            None => self.error("the text ends where a name should stand"),
        }
    }

    /// Steps over the rest of `line`.
    pub(super) fn skip_line(&mut self, line: u32) {
        while self.tokens.get(self.at).is_some_and(|&(_, at)| at == line) {
            self.at += 1;
        }
    }

    /// The tokens up to `;`, which is stepped over.
    pub(super) fn statement(&mut self) -> Result<Cursor<'a, 't>, String> {
        let (start, mut depth) = (self.at, 0);
        loop {
            match self.next()? {
                Token::Sign(b';') => break,
                Token::Sign(b'{') => depth += 1,
                Token::Sign(b'}') if depth == 0 => {
                    self.at -= 1;
                    return self.error("expected `;`, found `}`");
                }
                Token::Sign(b'}') => depth -= 1,
                _ => {}
            }
        }
        Ok(Cursor {
            tokens: &self.tokens[..self.at - 1],
            at: start,
        })
    }

    /// The tokens that are left, for messages.
    pub(super) fn text(&self) -> String {
        let words = self.tokens[self.at..].iter().map(|(token, _)| match token {
            Token::Word(word) => (*word).to_string(),
            Token::Text => "a text".into(),
            Token::Sign(b',') => ", ".into(),
            Token::Sign(sign) => char::from(*sign).into(),
        });
        words.collect()
    }

    /// Steps over a group in braces, whose opening brace is next.
    pub(super) fn skip_braces(&mut self) -> Result<(), String> {
        self.expect(b'{')?;
        let mut depth = 1;
        while depth > 0 {
            match self.next()? {
                Token::Sign(b'{') => depth += 1,
                Token::Sign(b'}') => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Token<'_> {
    /// For messages.
    pub(super) fn show(self) -> String {
        match self {
            Token::Word(word) => format!("`{word}`"),
            Token::Text => "a quoted text".into(),
            Token::Sign(sign) => format!("`{}`", char::from(sign)),
        }
    }
}
