//! How the setup asked for fares on each built-in card, as a table.

use crate::plan::advise::advice::{Advice, CardRow};
use crate::report::advise::flags;
use crate::report::text::{Paint, grouped};

/// Where the flags of a row begin.
const FLAGS: usize = 47;

/// Renders the table.
pub fn table(advice: &Advice, paint: Paint) -> String {
    let size = advice.estimate.setup.micro_batch;
    let heading = format!("On each built-in card, at micro-batch {size}");
    let mut text = format!(
        "\n{}\n   {:<17} {:>9}  {:<14} cheapest that fits\n",
        paint.bold(&heading),
        "card (sim:...)",
        "memory",
        "as it is"
    );
    text.extend(advice.cards.iter().map(|row| line(advice, row)));
    text
}

fn line(advice: &Advice, row: &CardRow) -> String {
    let as_it_is = match row.largest {
        _ if !row.runs => "does not run".to_owned(),
        Some(largest) => format!("up to {}", grouped(largest)),
        None if row.fits => "fits".to_owned(),
        None => "does not fit".to_owned(),
    };
    let precision = if row.precision == advice.estimate.setup.precision {
        String::new()
    } else {
        format!("in {} ", row.precision.name())
    };
    let cheapest = match &row.cheapest {
        Some(one) => format!("{precision}{}", flags(one)),
        None if row.fits => precision,
        None => "none that is known".to_owned(),
    };
    let total = row.card.total.to_string();
    let start = format!("   {:<17} {total:>9}  {as_it_is:<14}", row.card.name);
    let start = if cheapest.is_empty() { start.trim_end().to_owned() } else { start };
    if FLAGS + cheapest.len() <= 80 {
        format!("{}\n", format!("{start} {cheapest}").trim_end())
    } else {
        format!("{}\n       {cheapest}\n", start.trim_end())
    }
}
