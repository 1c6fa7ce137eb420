//! The known name that a mistyped one was probably meant to be.

/// Returns the known name nearest to `typed`, or `None` when nothing is near.
///
/// Case, `_` and blanks do not count. First comes a name that begins with all of `typed` (`h100` is
/// `h100-80gb`) or has it as whole words (`4090` is in `rtx-4090`): one in which nothing or a size
/// follows before another kind (`h100-nvl`). Then the smallest number of edits, of which at most a
/// third of the letters may be needed; among equals the first of `known`.
///
/// ```
/// use oomph::profile::names::nearest;
/// assert_eq!(nearest("h100", ["a10", "h100-80gb", "h100-nvl"]), Some("h100-80gb"));
/// assert_eq!(nearest("rtx-4900", ["rtx-3090", "rtx-4090"]), Some("rtx-4090"));
/// assert_eq!(nearest("3090", ["rtx-3090-ti", "rtx-3090", "rtx-4090"]), Some("rtx-3090"));
/// assert_eq!(nearest("potato", ["a10", "l4"]), None);
/// ```
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = plain(typed);
    if typed.is_empty() || typed.len() > LONGEST {
        return None;
    }
    known
        .into_iter()
        .filter_map(|name| {
            let spelled = plain(name);
            let edits = edits(&typed, &spelled);
            let rest = rest_after(&typed, &spelled);
            let near = rest.is_some() || edits * 3 <= typed.len().max(spelled.len());
            let kind = match rest {
                Some([] | [b'-', b'0'..=b'9', ..]) => Kind::Itself,
                Some(_) => Kind::Longer,
                None => Kind::Like,
            };
            near.then_some(((kind, edits), name))
        })
        .min_by_key(|&(rank, _)| rank)
        .map(|(_, name)| name)
}

/// How a name has what was typed in it, the likeliest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Nothing or a size follows.
    Itself,
    /// More follows.
    Longer,
    /// It resembles it.
    Like,
}

/// Returns what follows `typed` in a name that begins with it or has it as whole words.
fn rest_after<'a>(typed: &[u8], spelled: &'a [u8]) -> Option<&'a [u8]> {
    if typed.len() >= 2
        && let Some(rest) = spelled.strip_prefix(typed)
    {
        return Some(rest);
    }
    let words = (1..spelled.len()).filter(|&at| typed.len() >= 3 && spelled[at - 1] == b'-');
    words
        .filter_map(|at| spelled[at..].strip_prefix(typed))
        .find(|rest| rest.first().is_none_or(|&next| next == b'-'))
}

/// Whether one slip of the hand makes one name the other: a letter too few, too many or wrong, or two
/// swapped; nor do case, `_` and blanks count.
///
/// ```
/// use oomph::profile::names::is_one_slip;
/// assert!(is_one_slip("num_key_value_head", "num_key_value_heads"));
/// assert!(!is_one_slip("encoder_layers", "decoder_layers"));
/// ```
pub fn is_one_slip(typed: &str, known: &str) -> bool {
    let (typed, known) = (plain(typed), plain(known));
    typed.len().abs_diff(known.len()) <= 1
        && typed.len().max(known.len()) <= LONGEST
        && edits(&typed, &known) <= 1
}

/// Longer than every known name; what is longer is no typing error, and comparing takes time.
const LONGEST: usize = 80;

fn plain(name: &str) -> Vec<u8> {
    let kept = name.trim().bytes().map(|b| b.to_ascii_lowercase());
    kept.map(|b| if b == b'_' || b == b' ' { b'-' } else { b }).collect()
}

/// The number of insertions, deletions, replacements and swaps of neighbours that turn `a` into
/// `b` (optimal string alignment).
fn edits(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_of_neighbours_is_one_edit() {
        assert_eq!(edits(b"rtx-4900", b"rtx-4090"), 1);
        assert_eq!(edits(b"kitten", b"sitting"), 3);
        assert_eq!(edits(b"", b"a10"), 3);
    }

    #[test]
    fn a_beginning_wins_over_fewer_edits() {
        assert_eq!(nearest("a10", ["a1", "a100-40gb"]), Some("a100-40gb"));
        assert_eq!(nearest("V100_16GB", ["t4", "v100-16gb"]), Some("v100-16gb"));
    }

    #[test]
    fn a_size_of_it_comes_before_another_kind() {
        let known = ["rtx-3080-ti", "rtx-3080-10gb", "rtx-4060", "rtx-4060-ti-16gb"];
        assert_eq!(nearest("RTX 3080", known), Some("rtx-3080-10gb"));
        assert_eq!(nearest("3080", known), Some("rtx-3080-10gb"));
        assert_eq!(nearest("4060 Ti", known), Some("rtx-4060-ti-16gb"));
        assert_eq!(nearest("4060", known), Some("rtx-4060"));
        assert_eq!(nearest("06", known), None);
    }

    #[test]
    fn what_resembles_nothing_gets_no_suggestion() {
        assert_eq!(nearest("", ["a10"]), None);
        assert_eq!(nearest("mi300x", ["a10", "l4", "h200"]), None);
        assert_eq!(nearest(&"x".repeat(10_000), ["a10"]), None);
    }
}
