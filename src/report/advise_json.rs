//! Advice as JSON (`oomph.advise/1`).

use serde_json::{Value, json};

use crate::plan::advise::advice::{Advice, Smallest, Suggestion};
use crate::plan::advise::change::Change;
use crate::report::json::{estimate_value, gpu};

/// Renders advice; `pasted` makes a command of changes.
pub fn render(advice: &Advice, pasted: &dyn Fn(&[Change]) -> Option<String>) -> String {
    let all = |suggestions: &[Suggestion]| -> Vec<Value> {
        suggestions.iter().map(|one| suggestion(advice, one, pasted)).collect()
    };
    let tally = &advice.tally;
    let value = json!({
        "schema": "oomph.advise/1",
        "model": advice.estimate.model,
        "method": "estimated",
        "fits": advice.fits(),
        "micro_batch": advice.estimate.setup.micro_batch,
        "accumulation_steps": advice.estimate.setup.accumulation,
        "taken_bytes": advice.taken(),
        "capacity_bytes": advice.capacity.bytes,
        "largest_micro_batch": advice.estimate.largest_micro_batch,
        "gpu": advice.gpu.as_ref().map(gpu),
        "setups": {
            "all": tally.setups,
            "fit": tally.fit,
            "milder_fits": tally.milder_fits,
            "too_much": tally.too_much,
            "ruled_out": tally.ruled_out,
            "refused": tally.refused,
        },
        "to_fit": all(&advice.to_fit),
        "nearest": advice.nearest.as_ref().map(|one| suggestion(advice, one, pasted)),
        "one_change": all(&advice.alone),
        "room_for": all(&advice.back),
        "smallest_card": smallest(&advice.card),
        "smallest_card_with_first": advice.card_with.as_ref().map(smallest),
        "estimate": estimate_value(&advice.estimate),
    });
    format!("{value:#}\n")
}

fn suggestion(
    advice: &Advice,
    one: &Suggestion,
    pasted: &dyn Fn(&[Change]) -> Option<String>,
) -> Value {
    let change = |change: &Change| {
        json!({
            "flags": change.typed(),
            "meaning": change.meaning(&advice.estimate.setup),
            "transformers": change.in_transformers(),
        })
    };
    json!({
        "changes": one.changes.iter().map(change).collect::<Vec<_>>(),
        "command": pasted(&one.changes),
        "fits": one.fits,
        "beaten": one.beaten,
        "taken_bytes": one.taken,
        "saved_bytes": advice.saved(one),
        "largest_micro_batch": one.largest,
        "compute_percent": (one.cost.compute_percent() * 100.0).round() / 100.0,
        "host_link_bytes": one.cost.host,
        "numbers": one.cost.departure.reach().words().replace(' ', "_"),
    })
}

fn smallest(smallest: &Smallest) -> Value {
    json!({
        "gpu": smallest.card.as_ref().map(|card| format!("sim:{}", card.name)),
        "name": smallest.card.as_ref().map(|card| &card.product),
        "total_bytes": smallest.card.as_ref().map(|card| card.total),
        "looked_at": smallest.looked_at,
    })
}
