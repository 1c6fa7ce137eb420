//! YAML with places, by saphyr-parser; scalars are resolved as PyYAML does, which every framework
//! here calls.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span as YamlSpan};

use crate::ingest::framework::document::{
    Document, Member, Node, Place, Scalar, Span, SyntaxError,
};

/// The most nodes of a document, aliases written out: a limit against documents that explode.
const MOST_NODES: usize = 100_000;
/// The deepest nesting that is followed.
const DEEPEST: usize = 64;

/// Reads the first document of a text, whose outermost value is a map.
///
/// # Errors
/// Where the text is not YAML, or holds no map, with the place.
pub fn read(text: &str) -> Result<Document, SyntaxError> {
    let mut reader = Reader {
        text,
        // Markers count characters.
        bytes: text.char_indices().map(|(at, _)| at).chain([text.len()]).collect(),
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
    };
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            Event::StreamEnd | Event::DocumentEnd => {
                return Err(SyntaxError::at(text, 0, "the file is empty"));
            }
            event => {
                let (node, _) = reader.node(event, span, 0)?;
                return match node {
                    Node::Map(members) => Ok(Document::new(text, &members)),
                    Node::Scalar(Scalar::Null) => {
                        Err(SyntaxError::at(text, 0, "the file is empty"))
                    }
                    _ => Err(SyntaxError::at(text, 0, "expected keys and values")),
                };
            }
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    bytes: Vec<usize>,
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, (Node, Span)>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, YamlSpan), SyntaxError> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                let at = error.marker();
                let place = Place { line: at.line().max(1), column: at.col() + 1 };
                Err(SyntaxError { place, what: error.info().to_owned(), hint: None })
            }
            None => Err(SyntaxError::at(self.text, self.text.len(), "the file ends too early")),
        }
    }

    fn byte(&self, marker: Marker) -> usize {
        self.bytes.get(marker.index()).copied().unwrap_or(self.text.len())
    }

    /// Returns the bytes of an event, without the blanks that follow a plain scalar.
    fn span(&self, span: YamlSpan) -> Span {
        let (start, end) = (self.byte(span.start), self.byte(span.end));
        let text = self.text.get(start..end).unwrap_or_default();
        Span { start, end: start + text.trim_end().len() }
    }

    /// Reads the node that an event begins.
    fn node(
        &mut self,
        event: Event<'a>,
        span: YamlSpan,
        depth: usize,
    ) -> Result<(Node, Span), SyntaxError> {
        let at = self.span(span);
        self.nodes += 1;
        if self.nodes > MOST_NODES || depth > DEEPEST {
            return Err(SyntaxError::at(self.text, at.start, "too large or too deep to read"));
        }
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let scalar =
                    if plain { resolve(&text) } else { Scalar::Text(text.clone().into_owned()) };
                (anchor, Node::Scalar(scalar))
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.node(event, span, depth + 1)?.0),
                    }
                }
                (anchor, Node::List(items))
            }
            Event::MappingStart(anchor, _) => (anchor, Node::Map(self.map(depth)?)),
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                let (node, _) = known
                    .ok_or_else(|| SyntaxError::at(self.text, at.start, "an unknown alias"))?;
                // What an alias brings counts as often as it is brought.
                self.nodes += size(&node);
                return Ok((node, at));
            }
            _ => return Err(SyntaxError::at(self.text, at.start, "expected a value")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), at));
        }
        Ok((node, at))
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Member>, SyntaxError> {
        let mut members: Vec<Member> = Vec::new();
        let mut merged: Vec<Member> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                // What a map says itself wins over what `<<` brings.
                merged.retain(|other| members.iter().all(|member| member.key != other.key));
                merged.append(&mut members);
                return Ok(merged);
            }
            let key_at = self.span(span);
            let before = self.text.get(..key_at.start).unwrap_or_default();
            let lead = &before[before.rfind('\n').map_or(0, |at| at + 1)..];
            if lead.contains('\t') && lead.trim().is_empty() {
                // saphyr-parser lets it pass, PyYAML does not.
                return Err(SyntaxError::at(self.text, key_at.start, "a tab before a key"));
            }
            let key = match &event {
                Event::Scalar(text, ..) => text.clone().into_owned(),
                _ => String::new(),
            };
            self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let (node, at) = self.node(event, span, depth + 1)?;
            match node {
                Node::Map(inner) if key == "<<" => merged.extend(inner),
                node => members.push(Member { key, key_at, node, at }),
            }
        }
    }
}

fn size(node: &Node) -> usize {
    match node {
        Node::Map(members) => 1 + members.iter().map(|member| size(&member.node)).sum::<usize>(),
        Node::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Node::Scalar(_) => 1,
    }
}

/// Resolves a plain scalar as PyYAML's `SafeLoader` does (YAML 1.1): `yes` is true, `1_000` is a
/// number, `010` is eight, `1e1` is text.
///
/// Source: PyYAML 6.0.3, `resolver.py`.
fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Scalar::Bool(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return Scalar::Text(text.to_owned());
    }
    let digits = text.replace('_', "");
    let (sign, bare) = match digits.strip_prefix('-') {
        Some(bare) => (-1, bare),
        None => (1, digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let integer = match bare {
        "0" => Some(0),
        _ if bare.starts_with("0x") => i64::from_str_radix(&bare[2..], 16).ok(),
        _ if bare.starts_with("0b") => i64::from_str_radix(&bare[2..], 2).ok(),
        _ if bare.starts_with('0') => i64::from_str_radix(&bare[1..], 8).ok(),
        _ if bare.bytes().all(|b| b.is_ascii_digit()) => bare.parse().ok(),
        _ => None,
    };
    if let Some(integer) = integer {
        return Scalar::Integer(sign * integer);
    }
    match digits.parse::<f64>() {
        Ok(float) if bare.contains('.') => Scalar::Float(float),
        _ => Scalar::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, Option<Scalar>, String)> {
        let document = read(text).expect("YAML");
        let entries = document.entries.iter();
        entries
            .map(|e| (e.path.clone(), e.scalar.clone(), document.slice(e.at).to_owned()))
            .collect()
    }

    #[test]
    fn keys_and_values_know_where_they_stand() {
        let text = "# a comment\nmicro_batch_size: 6   # six\nä:\n  inner: \"x\"\n";
        let found = values(text);
        assert_eq!(found[0], ("micro_batch_size".into(), Some(Scalar::Integer(6)), "6".into()));
        assert_eq!(found[2], ("ä.inner".into(), Some(Scalar::Text("x".into())), "\"x\"".into()));
        let document = read(text).expect("YAML");
        assert_eq!(document.place(document.entries[0].at), Place { line: 2, column: 19 });
        assert_eq!(document.place(document.entries[2].at), Place { line: 4, column: 10 });
    }

    #[test]
    fn scalars_are_what_pyyaml_makes_of_them() {
        for (text, scalar) in [
            ("6", Scalar::Integer(6)),
            ("1_000", Scalar::Integer(1000)),
            ("010", Scalar::Integer(8)),
            ("-3", Scalar::Integer(-3)),
            ("1e1", Scalar::Text("1e1".into())),
            ("2.0", Scalar::Float(2.0)),
            ("yes", Scalar::Bool(true)),
            ("off", Scalar::Bool(false)),
            ("\"6\"", Scalar::Text("6".into())),
            ("${oc.env:X}", Scalar::Text("${oc.env:X}".into())),
            ("auto", Scalar::Text("auto".into())),
            ("", Scalar::Null),
        ] {
            assert_eq!(values(&format!("a: {text}\n"))[0].1, Some(scalar), "{text}");
        }
    }

    #[test]
    fn anchors_and_merges_are_followed() {
        let found =
            values("base: &b\n  micro: 4\n  acc: 2\nrun:\n  <<: *b\n  acc: 8\nn: &n 3\nm: *n\n");
        let get = |path: &str| found.iter().rfind(|e| e.0 == path).and_then(|e| e.1.clone());
        assert_eq!(get("run.micro"), Some(Scalar::Integer(4)));
        assert_eq!(get("run.acc"), Some(Scalar::Integer(8)));
        assert_eq!(get("m"), Some(Scalar::Integer(3)));
    }

    #[test]
    fn what_is_not_yaml_is_named_with_its_line() {
        for text in
            ["a: [1\nb: 2\n", "", "- 1\n", "just text", "a: *nowhere\n", "a: b: c\n", "\ta: 1"]
        {
            assert!(read(text).is_err(), "{text}");
        }
        let deep = format!("a: {}", "[".repeat(500));
        assert!(read(&deep).is_err());
        let bomb: String = (0..20)
            .map(|i| {
                format!("x{i}: &a{i} {{a: *a{}, b: *a{}}}\n", i - 1, i - 1).replace("*a-1", "1")
            })
            .collect();
        assert!(read(&bomb).is_err(), "a document that explodes");
    }
}
