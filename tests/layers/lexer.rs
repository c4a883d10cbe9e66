//! Rust cut into tokens, as far as the rules need it.

/// A name, `::`, or a single sign. Comments are left out; a literal is an empty text.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

pub(super) fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Cuts a text into tokens.
pub(super) struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    pub(super) fn tokens(text: &'a str) -> Vec<Token> {
        let mut lexer = Self { rest: text, line: 1, tokens: Vec::new() };
        while let Some(first) = lexer.rest.chars().next() {
            lexer.step(first);
        }
        lexer.tokens
    }

    fn step(&mut self, first: char) {
        let rest = self.rest;
        if rest.starts_with("//") {
            self.take(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.take(block_comment(rest));
        } else if let Some(length) = literal(rest) {
            self.push(length, true);
        } else if first.is_whitespace() || first == '\'' {
            self.take(first.len_utf8()); // of a lifetime only the name is left
        } else if is_name(first) {
            self.push(rest.find(|c| !is_name(c)).unwrap_or(rest.len()), false);
        } else if rest.starts_with("::") {
            self.push(2, false);
        } else {
            self.push(first.len_utf8(), false);
        }
    }

    fn push(&mut self, length: usize, is_literal: bool) {
        let line = self.line;
        let text = self.take(length);
        let text = if is_literal { "" } else { text };
        let text = text.to_string();
        self.tokens.push(Token { text, line });
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }
}

/// The length of the block comment at the start; such comments nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let (step, change) = match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at += step;
        depth += change;
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of the string or character at the start, if there is one.
fn literal(text: &str) -> Option<usize> {
    let prefixes = ["br", "cr", "r", "b", "c", ""];
    let prefix = prefixes.iter().find(|&&prefix| text.starts_with(prefix))?;
    let body = &text[prefix.len()..];
    let hashes = body.len() - body.trim_start_matches('#').len();
    if prefix.ends_with('r') && body[hashes..].starts_with('"') {
        let end = format!("\"{}", &body[..hashes]);
        let start = prefix.len() + hashes + 1;
        let length = text[start..].find(&end).map_or(text.len() - start, |at| at + end.len());
        return Some(start + length);
    }
    if body.starts_with('"') {
        return Some(prefix.len() + quoted(body, '"')?);
    }
    let mut chars = body.strip_prefix('\'')?.chars();
    let is_char = chars.next()? == '\\' || chars.next()? == '\'';
    if is_char { Some(prefix.len() + quoted(body, '\'')?) } else { None }
}

/// The length of what stands in these quotes, the quotes included.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return Some(at + 1);
        }
        escaped = c == '\\' && !escaped;
    }
    None
}
