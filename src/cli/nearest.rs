//! The nearest known name to a misspelt one.

/// Returns the name in `known` with the fewest edits to `word`, if it is close enough to be meant.
///
/// Close enough: at most one edit in three letters, or one is the beginning of the other.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (edits(word, name), name))
        .filter(|(distance, name)| {
            *distance <= name.len().max(word.len()).div_ceil(3)
                || (word.len() >= 3 && name.starts_with(word))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Levenshtein distance, letter case and `_` against `-` ignored.
fn edits(a: &str, b: &str) -> usize {
    let fold = |text: &str| -> Vec<char> {
        text.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    let (a, b) = (fold(a), fold(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_name_and_nonsense_finds_none() {
        let known = ["seq-len", "micro-batch", "precision"];
        assert_eq!(nearest("seq_length", known), Some("seq-len"));
        assert_eq!(nearest("micro-batchs", known), Some("micro-batch"));
        assert_eq!(nearest("zzzzzzzz", known), None);
    }
}
