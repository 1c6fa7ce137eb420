//! TOML with places, by the `toml` crate.

use toml::de::{DeTable, DeValue};

use crate::ingest::framework::document::{Document, Member, Node, Scalar, Span, SyntaxError};

/// Reads a text.
///
/// # Errors
/// Where the text is not TOML, with the place.
pub fn read(text: &str) -> Result<Document, SyntaxError> {
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        SyntaxError::at(text, offset, error.message())
    })?;
    Ok(Document::new(text, &members(table.get_ref())))
}

fn members(table: &DeTable<'_>) -> Vec<Member> {
    let mut members: Vec<Member> = table
        .iter()
        .map(|(key, value)| {
            let span = |range: std::ops::Range<usize>| Span { start: range.start, end: range.end };
            Member {
                key: key.get_ref().to_string(),
                key_at: span(key.span()),
                node: node(value.get_ref()),
                at: span(value.span()),
            }
        })
        .collect();
    members.sort_by_key(|member| member.key_at.start);
    members
}

fn node(value: &DeValue<'_>) -> Node {
    Node::Scalar(match value {
        DeValue::String(text) => Scalar::Text(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.to_string();
            digits.parse().map_or_else(|_| Scalar::Text(digits.clone()), Scalar::Integer)
        }
        DeValue::Float(number) => {
            let digits = number.to_string();
            digits.parse().map_or_else(|_| Scalar::Text(digits.clone()), Scalar::Float)
        }
        DeValue::Boolean(on) => Scalar::Bool(*on),
        DeValue::Datetime(when) => Scalar::Text(when.to_string()),
        DeValue::Array(items) => {
            return Node::List(items.iter().map(|item| node(item.get_ref())).collect());
        }
        DeValue::Table(table) => return Node::Map(members(table)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::framework::document::Place;

    #[test]
    fn tables_become_paths_and_know_where_they_stand() {
        let document = read("[training]\nlocal_batch_size = 8\nname = \"x\"\n").expect("TOML");
        let entry = document.get("training.local_batch_size").expect("there");
        assert_eq!(entry.scalar, Some(Scalar::Integer(8)));
        assert_eq!(document.place(entry.at), Place { line: 2, column: 20 });
        assert_eq!(document.slice(entry.at), "8");
        assert!(read("a = 1\na = 2\n").is_err(), "a duplicate");
    }
}
