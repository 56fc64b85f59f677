//! The words and marks of C source, without comments and lines for the preprocessor. Enough to find declarations in it.
//!
//! Never fails: what is no C comes out as marks that nobody looks for.

/// A word, a mark, or a literal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token<'a> {
    /// A name, a keyword or a number.
    Word(&'a str),
    Mark(char),
    /// What stands between the quotes of a string or a character.
    Text(&'a str),
}

/// All of them, in their order.
pub(super) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut reader = Reader { source, at: 0 };
    let mut tokens = Vec::new();
    let mut line_is_empty = true;
    while let Some(byte) = reader.byte(0) {
        match byte {
            b'\n' => {
                line_is_empty = true;
                reader.at += 1;
                continue;
            }
            b'/' if reader.byte(1) == Some(b'/') => {
                reader.skip_line();
                continue;
            }
            b'/' if reader.byte(1) == Some(b'*') => {
                reader.skip_past(2, "*/");
                continue;
            }
            b'#' if line_is_empty => {
                reader.skip_line();
                continue;
            }
            b'"' | b'\'' => tokens.push(Token::Text(reader.literal(byte))),
            byte if is_of_word(byte) => {
                let word = reader.word();
                if matches!(word, "R" | "LR" | "uR" | "UR" | "u8R") && reader.byte(0) == Some(b'"') {
                    tokens.push(Token::Text(reader.raw_literal()));
                } else {
                    tokens.push(Token::Word(word));
                }
            }
            // A backslash at the end of a line joins it with the next.
            byte => {
                reader.at += 1;
                if byte == b'\\' || byte.is_ascii_whitespace() {
                    continue;
                }
                tokens.push(Token::Mark(char::from(byte)));
            }
        }
        line_is_empty = false;
    }
    tokens
}

/// Letters of other scripts, which are all of several bytes, are of words. So words begin and end between characters.
fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

struct Reader<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn byte(&self, ahead: usize) -> Option<u8> {
        self.source.as_bytes().get(self.at + ahead).copied()
    }

    /// From `start` to here; both stand beside bytes that are characters of their own.
    fn since(&self, start: usize) -> &'a str {
        self.source.get(start..self.at).unwrap_or_default()
    }

    fn word(&mut self) -> &'a str {
        let start = self.at;
        let is_number = self.byte(0).is_some_and(|byte| byte.is_ascii_digit());
        while let Some(byte) = self.byte(0) {
            let separates = is_number && byte == b'\'' && self.byte(1).is_some_and(|next| next.is_ascii_alphanumeric());
            if !is_of_word(byte) && !separates {
                break;
            }
            self.at += 1;
        }
        self.since(start)
    }

    /// To the end of the line, and of those that it is joined with; comments may go over several.
    fn skip_line(&mut self) {
        let is_comment = self.byte(1) == Some(b'/');
        while let Some(byte) = self.byte(0) {
            match byte {
                b'\n' => return,
                b'\\' if self.byte(1) == Some(b'\n') => self.at += 2,
                b'\\' if self.byte(1) == Some(b'\r') && self.byte(2) == Some(b'\n') => self.at += 3,
                b'/' if !is_comment && self.byte(1) == Some(b'*') => self.skip_past(2, "*/"),
                _ => self.at += 1,
            }
        }
    }

    /// Past `end`, which is looked for from `ahead` on; or to the end.
    fn skip_past(&mut self, ahead: usize, end: &str) {
        let from = self.at + ahead;
        let found = self.source.get(from..).and_then(|rest| rest.find(end));
        self.at = found.map_or(self.source.len(), |place| from + place + end.len());
    }

    fn literal(&mut self, quote: u8) -> &'a str {
        self.at += 1;
        let start = self.at;
        while let Some(byte) = self.byte(0) {
            match byte {
                b'\\' => self.at = (self.at + 2).min(self.source.len()),
                // No literal goes over the end of a line.
                b'\n' => return self.since(start),
                byte if byte == quote => {
                    let text = self.since(start);
                    self.at += 1;
                    return text;
                }
                _ => self.at += 1,
            }
        }
        self.since(start)
    }

    /// `"mark(…)mark"`, in which nothing has a meaning but its end.
    fn raw_literal(&mut self) -> &'a str {
        let start = self.at + 1;
        let mark = self
            .source
            .get(start..)
            .and_then(|rest| rest.split('(').next())
            .unwrap_or_default();
        let end = format!("){mark}\"");
        let inside = start + mark.len();
        self.skip_past(1 + mark.len(), &end);
        self.source
            .get(inside + 1..self.at.saturating_sub(end.len()))
            .unwrap_or_default()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Token::{Mark, Text, Word};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_says_nothing_is_left_out() {
        let source = "#define A \\\n B /* over\nlines */ C\nint /* x */ a; // y \\\n still y\n#if 1'0\n'\\'' \"a\\\"b\" 1'000 R\"_(x)\" y)_\" é_1";
        let expected = [
            Word("int"),
            Word("a"),
            Mark(';'),
            Text("\\'"),
            Text("a\\\"b"),
            Word("1'000"),
            Text("x)\" y"),
            Word("é_1"),
        ];
        assert_eq!(tokens(source), expected);
    }

    #[test]
    fn what_has_no_end_ends_with_the_source() {
        for source in ["/*", "\"a", "'", "R\"x(", "R\"", "#", "//", "\\", "a\\", "\"\\"] {
            assert!(tokens(source).len() < 3, "{source}");
        }
        assert_eq!(tokens("\"a\nb"), [Text("a"), Word("b")]);
    }

    proptest! {
        /// Law: any text has tokens, and each is a part of it.
        #[test]
        fn any_text_has_tokens(text in "([a-z_é*/#\"'\\\\(){}\n ]|R\"|/\\*|\\*/|//){0,40}") {
            for token in tokens(&text) {
                if let Word(part) | Text(part) = token {
                    prop_assert!(text.contains(part));
                }
            }
        }
    }
}
