//! Advice as JSON (`oomph.advise/1`).

use serde_json::{Value, json};

use crate::plan::advise::advice::{Advice, CardRow, Smallest, Standing, Suggestion};
use crate::plan::advise::change::Change;
use crate::plan::advise::in_transformers;
use crate::report::advise::Pasted;
use crate::report::json::{estimate_value, gpu};

/// Renders advice; `pasted` makes a command of changes.
pub fn render(advice: &Advice, pasted: &Pasted) -> String {
    let all = |suggestions: &[Suggestion]| -> Vec<Value> {
        suggestions.iter().map(|one| suggestion(advice, one, pasted, None)).collect()
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
        "nearest": advice.nearest.as_ref().map(|one| suggestion(advice, one, pasted, None)),
        "one_change": all(&advice.alone),
        "room_for": all(&advice.back),
        "smallest_card": smallest(&advice.card),
        "smallest_card_with": advice.cards_with.iter().map(smallest).collect::<Vec<_>>(),
        "cards": advice.cards.iter().map(|row| card(advice, row, pasted)).collect::<Vec<_>>(),
        "estimate": estimate_value(&advice.estimate),
    });
    format!("{value:#}\n")
}

fn suggestion(advice: &Advice, one: &Suggestion, pasted: &Pasted, gpu: Option<&str>) -> Value {
    let change = |change: &Change| {
        json!({
            "flags": change.typed(),
            "meaning": change.meaning(&advice.estimate.setup),
            "transformers": in_transformers::written(
                change,
                advice.estimate.task,
                advice.estimate.setup.transformers,
            ),
        })
    };
    json!({
        "changes": one.changes.iter().map(change).collect::<Vec<_>>(),
        "command": pasted(&one.changes, gpu),
        "fits": one.fits,
        "standing": match one.standing {
            Standing::Front => "front",
            Standing::Beaten(_) => "beaten",
            Standing::MoreThanNeeded => "more_than_needed",
        },
        "beaten_by": match one.standing {
            Standing::Beaten(many) => many,
            Standing::Front | Standing::MoreThanNeeded => 0,
        },
        "taken_bytes": one.taken,
        "saved_bytes": advice.saved(one),
        "largest_micro_batch": one.largest,
        "compute_percent": (one.cost.compute_percent() * 100.0).round() / 100.0,
        "host_link_bytes": one.cost.host,
        "sent_bytes": one.cost.sent,
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

fn card(advice: &Advice, row: &CardRow, pasted: &Pasted) -> Value {
    let gpu = format!("sim:{}", row.card.name);
    let cheapest =
        row.cheapest.as_ref().map(|one| suggestion(advice, one, pasted, Some(gpu.as_str())));
    json!({
        "gpu": gpu,
        "name": row.card.product,
        "total_bytes": row.card.total,
        "precision": row.precision.name(),
        "runs": row.runs,
        "fits": row.fits,
        "largest_micro_batch": row.largest,
        "cheapest": cheapest,
    })
}
