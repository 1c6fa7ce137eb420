//! A configuration's text as keys and values that know where they stand.

pub use crate::plan::finding::Place;

/// A range of bytes of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

/// A value that is neither a map nor a list.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// A whole number, also one that is written otherwise and read as one (`16.0` in hjson).
    Integer(i64),
    /// Another number.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Nothing.
    Null,
    /// Text.
    Text(String),
}

/// What stands behind a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A value.
    Scalar(Scalar),
    /// Keys and values, in their order, duplicates included.
    Map(Vec<Member>),
    /// Values without keys.
    List(Vec<Node>),
}

/// A key of a map and what stands behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_at: Span,
    /// What stands behind it.
    pub node: Node,
    /// Where that stands.
    pub at: Span,
}

/// One value of a document, under its whole path.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Keys joined by dots (`training.local_batch_size`).
    pub path: String,
    /// The value; `None` for a map or a list.
    pub scalar: Option<Scalar>,
    /// The values of a list; nothing for all else.
    pub items: Vec<Node>,
    /// Where the key stands.
    pub key_at: Span,
    /// Where the value stands.
    pub at: Span,
}

/// A configuration's text and its entries, in the order of the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The text.
    pub text: String,
    /// Maps, lists and values.
    pub entries: Vec<Entry>,
}

/// Why a text is no configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {what}", place.line, place.column)]
pub struct SyntaxError {
    /// Where.
    pub place: Place,
    /// What is wrong there.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl SyntaxError {
    /// Makes an error at a byte of a text.
    pub fn at(text: &str, offset: usize, what: impl Into<String>) -> SyntaxError {
        SyntaxError { place: place(text, offset), what: what.into(), hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> SyntaxError {
        self.hint = Some(hint.into());
        self
    }
}

/// Returns the place of a byte of a text; one that is inside a character counts as its start.
pub fn place(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    Place { line, column: before[start..].chars().count() + 1 }
}

impl Document {
    /// Flattens the members of the outermost map.
    pub fn new(text: &str, members: &[Member]) -> Document {
        let mut entries = Vec::new();
        flatten("", members, &mut entries);
        Document { text: text.to_owned(), entries }
    }

    /// Returns the entry of a path, the last one where it is there more than once.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.iter().rfind(|entry| entry.path == path)
    }

    /// Returns where an entry's value stands.
    pub fn place(&self, span: Span) -> Place {
        place(&self.text, span.start)
    }

    /// Returns the text of a span.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }

    /// Returns the first entry whose key was there before in the same map.
    pub fn duplicate(&self) -> Option<&Entry> {
        let before = |at: usize, path: &str| self.entries[..at].iter().any(|e| e.path == path);
        (0..self.entries.len())
            .find(|at| before(*at, &self.entries[*at].path))
            .map(|at| &self.entries[at])
    }
}

fn flatten(prefix: &str, members: &[Member], entries: &mut Vec<Entry>) {
    for Member { key, key_at, node, at } in members {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let (scalar, items) = match node {
            Node::Scalar(scalar) => (Some(scalar.clone()), Vec::new()),
            Node::List(items) => (None, items.clone()),
            Node::Map(_) => (None, Vec::new()),
        };
        entries.push(Entry { path: path.clone(), scalar, items, key_at: *key_at, at: *at });
        if let Node::Map(inner) = node {
            flatten(&path, inner, entries);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a: 1\nä: 2\n";
        assert_eq!(place(text, 0), Place { line: 1, column: 1 });
        assert_eq!(place(text, 9), Place { line: 2, column: 4 });
        assert_eq!(place(text, 99), Place { line: 3, column: 1 });
    }
}
