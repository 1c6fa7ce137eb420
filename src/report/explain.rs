//! An estimate explained: who holds the bytes at the peak, and how they come and go.

use serde_json::{Value, json};

use crate::memory::explain::{By, Part, Span, Timeline};
use crate::memory::trace::Phase;
use crate::report::text::{Paint, precise};
use crate::units::{Bytes, counted};

/// Parts that a table shows; the rest is one line, so that the table stays on a screen.
const SHOWN: usize = 40;

/// Columns of the plot, beside its scale.
pub const COLUMNS: usize = 64;

/// Rows of the plot.
const ROWS: u64 = 12;

/// Eighths of a cell, from the bottom.
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What of an estimate is explained.
#[derive(Debug, Clone, Default)]
pub struct Explained {
    /// The parts of what is alive at the peak, and what they are told apart by.
    pub parts: Option<(By, Vec<Part>)>,
    /// The timeline of loading and of two steps.
    pub timeline: Option<Timeline>,
}

impl Explained {
    /// Renders what was asked for, or nothing.
    pub fn render(&self, paint: Paint) -> String {
        let mut text = String::new();
        if let Some((by, parts)) = &self.parts {
            text.push_str(&table(*by, parts, paint));
        }
        if let Some(timeline) = &self.timeline {
            text.push_str(&plot(timeline, paint));
        }
        text
    }

    /// Adds what was asked for to the JSON of an estimate.
    pub fn add_to(&self, estimate: &mut Value) {
        if let Some((by, parts)) = &self.parts {
            let parts: Vec<Value> = parts
                .iter()
                .map(|part| json!({"name": part.name, "bytes": part.bytes, "blocks": part.blocks}))
                .collect();
            estimate["at_peak_by"] = json!({"by": by.name(), "parts": parts});
        }
        if let Some(timeline) = &self.timeline {
            let span = |span: &Span| {
                json!({
                    "phase": span.phase.name(),
                    "first_event": span.first_event,
                    "peak_allocated_bytes": span.peak_allocated,
                    "allocated_bytes": span.allocated,
                    "reserved_bytes": span.reserved,
                })
            };
            estimate["timeline"] = json!({
                "phases": timeline.spans.iter().map(span).collect::<Vec<_>>(),
                "events_a_point": timeline.events_a_point,
                "allocated_bytes": timeline.curve,
            });
        }
    }
}

/// Renders the parts, the largest first, with the last ones summed up.
fn table(by: By, parts: &[Part], paint: Paint) -> String {
    let total: Bytes = parts.iter().fold(Bytes::ZERO, |sum, part| sum + part.bytes);
    // One that would stand alone under "others" is shown instead.
    let shown = if parts.len() == SHOWN + 1 { parts.len() } else { SHOWN.min(parts.len()) };
    let (shown, others) = parts.split_at(shown);
    let mut rows: Vec<(String, Bytes)> =
        shown.iter().map(|part| (part.name.clone(), part.bytes)).collect();
    if !others.is_empty() {
        let bytes = others.iter().fold(Bytes::ZERO, |sum, part| sum + part.bytes);
        rows.push((format!("({})", counted(others.len() as u64, "other")), bytes));
    }
    let sizes: Vec<Bytes> = rows.iter().map(|(_, bytes)| *bytes).collect();
    let printed = precise(&sizes, total);
    let mut text = format!("\n{}\n", paint.bold(&format!("Alive at the peak, by {}", by.name())));
    let mut line = |name: &str, size: &str| {
        text.push_str(&format!("  {:<58} {size:>12}\n", shortened(name, 58)));
    };
    for ((name, _), size) in rows.iter().zip(&printed.parts) {
        line(name, size);
    }
    line("= peak allocated", &printed.total);
    text
}

/// Cuts the middle out of a name that is too wide: both ends tell names apart.
fn shortened(name: &str, width: usize) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= width {
        return name.to_owned();
    }
    let head = (width - 1) / 2;
    let tail = letters.len() - (width - 1 - head);
    letters[..head].iter().chain(&['…']).chain(&letters[tail..]).collect()
}

/// Plots allocated bytes over the events, with the phases under it.
fn plot(timeline: &Timeline, paint: Paint) -> String {
    let heading = "Timeline of loading and two steps: bytes allocated, by event (not by time)";
    let mut text = format!("\n{}\n", paint.bold(heading));
    let top = timeline.curve.iter().copied().max().unwrap_or_default();
    for row in (0..ROWS).rev() {
        let scale = match row {
            _ if row == ROWS - 1 => top.to_string(),
            0 => "0".to_owned(),
            _ => String::new(),
        };
        text.push_str(&format!("  {scale:>10} |"));
        let cells: String = timeline.curve.iter().map(|&bytes| cell(bytes, top, row)).collect();
        text.push_str(cells.trim_end());
        text.push('\n');
    }
    text.push_str(&format!("  {:>10}  {}\n", "", marks(timeline)));
    text.push_str("  l load, f forward, b backward, o optimizer, . batches and zero-grad\n");
    text.push_str(&format!(
        "\n  {:<12} {:>14} {:>16} {:>18}\n",
        "phase", "peak allocated", "allocated after", "reserved after"
    ));
    for span in &timeline.spans {
        text.push_str(&format!(
            "  {:<12} {:>14} {:>16} {:>18}\n",
            span.phase.name().replace('_', " "),
            span.peak_allocated.to_string(),
            span.allocated.to_string(),
            span.reserved.to_string(),
        ));
    }
    text
}

/// The part of a column that lies in a row, in eighths.
fn cell(bytes: Bytes, top: Bytes, row: u64) -> char {
    let all = u128::from(ROWS) * 8;
    let top = u128::from(top.get()).max(1);
    // Rounded up: what is there at all is seen.
    let filled = (u128::from(bytes.get()) * all).div_ceil(top);
    let here = filled.saturating_sub(u128::from(row) * 8).min(8);
    EIGHTHS[here as usize]
}

/// One letter a column: the phase that has most of its events.
fn marks(timeline: &Timeline) -> String {
    let phase_of = |event: usize| {
        let after = timeline.spans.partition_point(|span| span.first_event <= event);
        after.checked_sub(1).map(|at| timeline.spans[at].phase)
    };
    (0..timeline.curve.len())
        .map(|point| {
            match phase_of(point * timeline.events_a_point + timeline.events_a_point / 2) {
                Some(Phase::Load) => 'l',
                Some(Phase::Forward) => 'f',
                Some(Phase::Backward) => 'b',
                Some(Phase::Optimizer) => 'o',
                Some(Phase::Batch | Phase::ZeroGrad) | None => '.',
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_filled_from_the_bottom_in_eighths() {
        let top = Bytes::new(96);
        let column = |bytes| (0..ROWS).map(|row| cell(Bytes::new(bytes), top, row)).collect();
        let text: String = column(12);
        assert_eq!(text, "█▄          ");
        let full: String = column(96);
        assert_eq!(full, "█".repeat(12));
        let nothing: String = column(0);
        assert_eq!(nothing, " ".repeat(12));
    }

    #[test]
    fn a_wide_name_keeps_both_its_ends() {
        assert_eq!(shortened("model.layers.0", 20), "model.layers.0");
        assert_eq!(shortened("abcdefghij", 5), "ab…ij");
    }
}
