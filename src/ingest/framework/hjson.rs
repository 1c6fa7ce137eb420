//! Hjson, the dialect of JSON that DeepSpeed reads its configuration with, with places.
//!
//! Follows the reader that DeepSpeed calls (PyPI hjson 3.1.0, `decoder.py`): comments, commas that
//! are missing or trail, keys and strings without quotes, a document without braces, numbers that
//! are whole however they are written. Every JSON text is Hjson. tests/frameworks.rs compares
//! it with what that package made of a table of texts.

use crate::ingest::framework::document::{
    Document, Member, Node, Scalar, Span, SyntaxError, place,
};

/// The deepest nesting that is followed: a limit against hostile files.
const DEEPEST: usize = 64;

/// Reads a text whose outermost value is a map.
///
/// # Errors
/// Where the text is not Hjson, with the place.
pub fn read(text: &str) -> Result<Document, SyntaxError> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    reader.skip()?;
    let members = match reader.peek() {
        Some('{') => {
            reader.at += 1;
            reader.map(true)?
        }
        Some('[') => return Err(reader.error("expected keys and values, found a list")),
        None => Vec::new(),
        Some(_) => reader.map(false)?,
    };
    reader.skip()?;
    match reader.peek() {
        None => Ok(Document::new(text, &members)),
        Some(c) => Err(reader.error(format!("expected the end, found `{c}`"))),
    }
}

/// A text and how far it was read.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn error(&self, what: impl Into<String>) -> SyntaxError {
        SyntaxError::at(self.text, self.at, what)
    }

    /// Skips blanks and comments.
    fn skip(&mut self) -> Result<(), SyntaxError> {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
            self.at += blank;
            let rest = self.rest();
            if rest.starts_with('#') || rest.starts_with("//") {
                self.at += rest.find(['\n', '\r']).unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                let Some(end) = rest.find("*/") else {
                    return Err(self.error("a comment that does not end"));
                };
                self.at += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    /// Reads members up to the closing brace, or to the end of a document without braces.
    fn map(&mut self, braces: bool) -> Result<Vec<Member>, SyntaxError> {
        let mut members = Vec::new();
        loop {
            self.skip()?;
            match self.peek() {
                Some('}') if braces => {
                    self.at += 1;
                    return Ok(members);
                }
                None if !braces && !members.is_empty() => return Ok(members),
                None => return Err(self.error("a `{` that is not closed")),
                Some(_) => {}
            }
            let (key, key_at) = self.key()?;
            self.skip()?;
            if self.peek() != Some(':') {
                return Err(self.error(format!("expected `:` after the key `{key}`")));
            }
            self.at += 1;
            self.skip()?;
            let start = self.at;
            let node = self.value()?;
            let end = self.text[..self.at].trim_end().len().max(start);
            members.push(Member { key, key_at, node, at: Span { start, end } });
            self.skip()?;
            if self.peek() == Some(',') {
                self.at += 1;
            }
        }
    }

    fn key(&mut self) -> Result<(String, Span), SyntaxError> {
        let start = self.at;
        if let Some(quote @ ('"' | '\'')) = self.peek() {
            let key = self.quoted(quote)?;
            return Ok((key, Span { start, end: self.at }));
        }
        let rest = self.rest();
        let Some(end) = rest.find([':', '{', '}', '[', ']', ',', '\n', '\r']) else {
            return Err(self.error("a key without `:` after it"));
        };
        let key = rest[..end].trim_end();
        if key.is_empty() || key.contains([' ', '\t']) || !rest[end..].trim_start().starts_with(':')
        {
            let found: String = rest.chars().take(20).take_while(|c| *c != '\n').collect();
            return Err(self.error(format!("expected a key and `:`, found `{found}`")));
        }
        let key = key.to_owned();
        self.at += key.len();
        Ok((key, Span { start, end: self.at }))
    }

    fn value(&mut self) -> Result<Node, SyntaxError> {
        match self.peek() {
            Some('\'') if self.rest().starts_with("'''") => self.multiline(),
            Some(quote @ ('"' | '\'')) => {
                self.quoted(quote).map(|text| Node::Scalar(Scalar::Text(text)))
            }
            Some('{') => self.deeper(|reader| reader.map(true).map(Node::Map)),
            Some('[') => self.deeper(Reader::list),
            Some(c @ ('}' | ']' | ',' | ':')) => {
                Err(self.error(format!("expected a value, found `{c}`")))
            }
            None => Err(self.error("expected a value, found the end")),
            Some(_) => Ok(self.bare()),
        }
    }

    fn deeper(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Node, SyntaxError>,
    ) -> Result<Node, SyntaxError> {
        if self.depth == DEEPEST {
            return Err(self.error(format!("more than {DEEPEST} levels deep")));
        }
        self.at += 1;
        self.depth += 1;
        let node = read(self)?;
        self.depth -= 1;
        Ok(node)
    }

    fn list(&mut self) -> Result<Node, SyntaxError> {
        let mut items = Vec::new();
        loop {
            self.skip()?;
            match self.peek() {
                Some(']') => {
                    self.at += 1;
                    return Ok(Node::List(items));
                }
                None => return Err(self.error("a `[` that is not closed")),
                Some(_) => {}
            }
            items.push(self.value()?);
            self.skip()?;
            if self.peek() == Some(',') {
                self.at += 1;
            }
        }
    }

    /// Reads a number, `true`, `false`, `null`, or text up to the end of the line.
    ///
    /// A comma, a bracket or a comment ends the four, and belongs to a text.
    fn bare(&mut self) -> Node {
        let rest = self.rest();
        let line = &rest[..rest.find(['\n', '\r']).unwrap_or(rest.len())];
        let ends = |(at, c): &(usize, char)| {
            matches!(c, ',' | '}' | ']' | '#')
                || line[*at..].starts_with("//")
                || line[*at..].starts_with("/*")
        };
        let stops = line.char_indices().filter(ends).map(|(at, _)| at).chain([line.len()]);
        for stop in stops {
            let word = line[..stop].trim();
            let scalar = match word {
                "null" => Some(Scalar::Null),
                "true" => Some(Scalar::Bool(true)),
                "false" => Some(Scalar::Bool(false)),
                other => number(other),
            };
            if let Some(scalar) = scalar {
                self.at += stop;
                return Node::Scalar(scalar);
            }
        }
        let text = line.trim().to_owned();
        self.at += line.len();
        Node::Scalar(Scalar::Text(text))
    }

    fn quoted(&mut self, quote: char) -> Result<String, SyntaxError> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(c) = self.peek() else {
                self.at = start;
                return Err(self.error("a string that does not end"));
            };
            if c < ' ' {
                return Err(self.error("a control character in a string"));
            }
            self.at += c.len_utf8();
            match c {
                '\\' => text.push(self.escape()?),
                c if c == quote => return Ok(text),
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let wrong = self.error("an escape that is not known");
        let c = self.peek().ok_or(wrong.clone())?;
        self.at += c.len_utf8();
        Ok(match c {
            '"' | '\'' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let code = self.rest().get(..4).and_then(|hex| u32::from_str_radix(hex, 16).ok());
                self.at += 4 * usize::from(code.is_some());
                // Half of a surrogate pair is no character; nothing that is looked for has one.
                char::from_u32(code.ok_or(wrong)?).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return Err(wrong),
        })
    }

    /// Reads `'''text'''`: lines lose as many blanks as stand before the quotes.
    fn multiline(&mut self) -> Result<Node, SyntaxError> {
        let inner = &self.rest()[3..];
        let Some(end) = inner.find("'''") else {
            return Err(self.error("a `'''` that does not end"));
        };
        let indent = place(self.text, self.at).column - 1;
        let dedented = |line: &str| {
            let blanks = line.len() - line.trim_start_matches([' ', '\t', '\r']).len();
            line[blanks.min(indent)..].trim_end_matches('\r').to_owned()
        };
        let lines: Vec<String> = inner[..end].split('\n').map(dedented).collect();
        let text = lines.join("\n");
        let text = text.strip_prefix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\n').unwrap_or(text).to_owned();
        self.at += end + 6;
        Ok(Node::Scalar(Scalar::Text(text)))
    }
}

/// Reads a number as JSON writes it; a whole one below 10^10 is an integer, as in hjson-py.
fn number(word: &str) -> Option<Scalar> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let whole = digits.len() - digits.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let padded = whole > 1 && digits.starts_with('0');
    if whole == 0 || padded || digits.ends_with('.') || digits.contains(".e") {
        return None;
    }
    let plain =
        digits[whole..].chars().all(|c| matches!(c, '0'..='9' | '.' | 'e' | 'E' | '+' | '-'));
    if digits.len() == whole {
        return match word.parse() {
            Ok(integer) => Some(Scalar::Integer(integer)),
            Err(_) => word.parse().ok().map(Scalar::Float),
        };
    }
    let value: f64 = word.parse().ok().filter(|_| plain)?;
    if value.fract() == 0.0 && value.abs() < 1e10 {
        return Some(Scalar::Integer(value as i64));
    }
    Some(Scalar::Float(value))
}
