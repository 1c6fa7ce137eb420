//! The words and the paint that the tables for people share.

use comfy_table::{CellAlignment, Table, presets};

use crate::report::apportion::apportion;
use crate::units::Bytes;

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    /// ANSI escapes, or none.
    pub on: bool,
}

impl Paint {
    /// Colours text with an ANSI colour number.
    pub fn color(self, number: u8, text: &str) -> String {
        if self.on && !text.is_empty() {
            format!("\x1b[{number}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Makes text bold.
    pub fn bold(self, text: &str) -> String {
        self.color(1, text)
    }
}

/// Sizes as printed with two decimals of one unit, so that the parts add up to the total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// Each part.
    pub parts: Vec<String>,
    /// Their sum.
    pub total: String,
}

/// Prints parts and their total in hundredths of the unit that suits the total.
///
/// Rounding each part by itself would leave a column that does not add up; these do.
pub fn precise(parts: &[Bytes], total: Bytes) -> Printed {
    let (unit, shift) = match total.get() {
        bytes if bytes >= 1 << 30 => ("GiB", 30),
        bytes if bytes >= 1 << 20 => ("MiB", 20),
        _ => ("KiB", 10),
    };
    let hundredths = u64::try_from(((u128::from(total.get()) * 100) + (1 << (shift - 1))) >> shift)
        .unwrap_or(u64::MAX);
    let print = |hundredths: u64| format!("{}.{:02} {unit}", hundredths / 100, hundredths % 100);
    let sizes: Vec<u64> = parts.iter().map(|part| part.get()).collect();
    Printed {
        parts: apportion(&sizes, hundredths).into_iter().map(print).collect(),
        total: print(hundredths),
    }
}

/// Returns lines as a list under a heading, or nothing when there are none.
pub fn section(heading: &str, lines: &[String], paint: Paint) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{}\n", paint.bold(heading));
    for line in lines {
        text.push_str(&item(line));
    }
    text
}

/// Wraps a line at 80 columns, as an item of a list.
pub fn item(line: &str) -> String {
    wrap("  - ", line)
}

/// Returns a labelled line, wrapped at 80 columns beside its label.
pub fn labelled(label: &str, line: &str) -> String {
    wrap(&format!("  {label:<8}"), line)
}

/// Returns what to try, under that label; a command at its end has lines of its own, to be pasted.
pub fn to_try(hint: &str) -> String {
    match hint.split_once(": oomph ") {
        None => labelled("try", hint),
        Some((what, command)) => {
            let command = command_lines(&" ".repeat(10), &format!("oomph {command}"));
            format!("{}{command}", labelled("try", &format!("{what}:")))
        }
    }
}

/// Breaks a command between its flags at 80 columns, so that it can be pasted as it stands.
pub fn command_lines(indent: &str, command: &str) -> String {
    let mut text = indent.to_owned();
    let mut column = indent.len();
    let mut words = command.split(' ').peekable();
    while let Some(word) = words.next() {
        let mut piece = word.to_owned();
        if word.starts_with("--")
            && let Some(value) = words.next_if(|next| !next.starts_with("--"))
        {
            piece = format!("{word} {value}");
        }
        let width = piece.chars().count();
        if column > indent.len() && column + 1 + width > 78 {
            text.push_str(&format!(" \\\n{indent}    "));
            column = indent.len() + 4;
        } else if column > indent.len() {
            text.push(' ');
            column += 1;
        }
        text.push_str(&piece);
        column += width;
    }
    text.push('\n');
    text
}

/// Wraps a line at 80 columns after a lead, and indents what follows as far.
fn wrap(lead: &str, line: &str) -> String {
    let indent = lead.chars().count();
    let mut text = lead.to_owned();
    let mut column = indent;
    for (i, word) in line.split_whitespace().enumerate() {
        let width = word.chars().count();
        if i > 0 && column + 1 + width > 80 {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            column = indent;
        } else if i > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += width;
    }
    text.push('\n');
    text
}

/// Makes a table without lines, the columns of these numbers flush right.
pub fn table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Returns a table's lines, without the blanks at their ends.
pub fn lines(table: &Table) -> String {
    table.lines().map(|line| format!(" {}\n", line.trim_end())).collect()
}

/// Puts separators between thousands: `1,048,576`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_parts_add_up_to_the_printed_total() {
        let parts: Vec<Bytes> = (1..9u64).map(|i| Bytes::new(i * 777_777_777)).collect();
        let printed = precise(&parts, parts.iter().copied().sum());
        let hundredths = |text: &str| -> u64 {
            let number = text.split(' ').next().unwrap_or_default().replace('.', "");
            number.parse().expect("digits")
        };
        let sum: u64 = printed.parts.iter().map(|part| hundredths(part)).sum();
        assert_eq!(sum, hundredths(&printed.total));
        assert_eq!(printed.total, "26.08 GiB");
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_048_576), "1,048,576");
        assert_eq!(grouped(123_456), "123,456");
    }

    #[test]
    fn long_lines_wrap_at_80_columns() {
        let line = "word ".repeat(60);
        assert!(item(&line).lines().all(|line| line.len() <= 80));
    }

    #[test]
    fn a_command_to_try_is_one_line_for_a_shell() {
        let command = format!("oomph advise gpt2 {}--gpu sim:t4", "--flag value ".repeat(12));
        let text = to_try(&format!("several changes together: {command}"));
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        let (label, pasted) = text.split_once('\n').expect("lines");
        assert_eq!(label, "  try     several changes together:");
        let joined = pasted.replace("\\\n", "");
        assert_eq!(joined.split_whitespace().collect::<Vec<_>>().join(" "), command);
        assert_eq!(to_try("oomph advise: several"), "  try     oomph advise: several\n");
    }

    #[test]
    fn no_paint_leaves_no_escapes() {
        assert_eq!(Paint { on: false }.bold("x"), "x");
        assert_eq!(Paint { on: true }.color(31, "x"), "\x1b[31mx\x1b[0m");
    }
}
