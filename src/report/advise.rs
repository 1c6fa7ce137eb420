//! Advice as text for people: what would fit, what each change saves by itself, the cards.

use crate::plan::advise::advice::{Advice, Standing, Suggestion};
use crate::plan::advise::change::{Change, Reach};
use crate::plan::advise::in_transformers;
use crate::report::advise_cards;
use crate::report::estimate::{closing, describe};
use crate::report::plan::gpus;
use crate::report::text::{Paint, command_lines, grouped, labelled, section};
use crate::units::Bytes;

/// Makes a command of changes, for the GPU asked about or another one.
pub type Pasted<'a> = dyn Fn(&[Change], Option<&str>) -> Option<String> + 'a;

/// The most suggestions that are shown; JSON has all.
const SHOWN: usize = 5;

/// Where the flags of a row begin.
const FLAGS: usize = 51;

/// Renders advice; `pasted` makes a command of changes.
pub fn render(advice: &Advice, pasted: &Pasted, paint: Paint) -> String {
    let estimate = &advice.estimate;
    let mut text = format!("{}\n\n", paint.bold(&headline(advice)));
    if let Some(gpu) = &advice.gpu {
        text.push_str(&labelled("on", &gpus(std::slice::from_ref(gpu))));
    }
    text.push_str(&labelled("setup", &describe(estimate)));
    text.push_str(&labelled("takes", &takes(advice)));
    if let Some(largest) = estimate.largest_micro_batch {
        text.push_str(&labelled("largest", &format!("micro-batch {} fits", grouped(largest))));
    }
    if !advice.fits() {
        text.push_str(&labelled("to fit", &in_short(advice)));
        text.push_str(&labelled("looked", &tally(advice)));
    }
    for (label, line) in ["card"].into_iter().chain(std::iter::repeat("")).zip(cards(advice)) {
        text.push_str(&labelled(label, &line));
    }
    let mut shown: Vec<&Suggestion> = Vec::new();
    if !advice.fits() {
        text.push_str(&to_fit(advice, pasted, paint));
        shown.extend(advice.to_fit.iter().take(SHOWN).chain(&advice.nearest));
    }
    if !advice.back.is_empty() {
        text.push_str(&heading("The room that is left would do for", paint));
        text.extend(advice.back.iter().map(|one| row(advice, one)));
        shown.extend(&advice.back);
    }
    if !advice.alone.is_empty() {
        text.push_str(&heading("One change at a time", paint));
        text.extend(advice.alone.iter().map(|one| row(advice, one)));
        shown.extend(&advice.alone);
    }
    if !advice.cards.is_empty() {
        text.push_str(&advise_cards::table(advice, paint));
        shown.extend(advice.cards.iter().filter_map(|row| row.cheapest.as_ref()));
    }
    text.push_str(&section("What they mean", &meanings(advice, &shown), paint));
    text.push_str(&closing(estimate, paint));
    text
}

fn headline(advice: &Advice) -> String {
    let estimate = &advice.estimate;
    let fits = if advice.fits() { "fits" } else { "does not fit" };
    format!("{} at micro-batch {} {fits}", estimate.model, estimate.setup.micro_batch)
}

fn takes(advice: &Advice) -> String {
    let (taken, room) = (advice.taken(), advice.capacity.bytes);
    if advice.fits() {
        return format!("{taken} of {room}: {} is left", room.saturating_sub(taken));
    }
    let need = advice.estimate.need();
    format!("{taken}, and {need} at the least; {room} is there")
}

fn tally(advice: &Advice) -> String {
    let t = &advice.tally;
    let count = |n: usize| grouped(n as u64);
    let refused = match t.refused {
        0 => String::new(),
        n => format!("; {} are refused by the model or not known, and left out", count(n)),
    };
    format!(
        "at {} setups: {} fit with nothing that could be left out, {} more with what could; {} do \
         not{refused}",
        count(t.setups),
        count(t.fit),
        count(t.milder_fits),
        count(t.too_much + t.ruled_out),
    )
}

/// Says what single changes save and cost, one of each kind of cost: the one that saves least of those
/// that are enough, else the one that saves most.
fn in_short(advice: &Advice) -> String {
    let kind = |one: &&Suggestion| {
        let smaller = one.changes.iter().any(|change| matches!(change, Change::MicroBatch(..)));
        let reach = one.cost.departure.reach().max(Reach::Rounding);
        (reach, one.cost.is_more_compute(), smaller)
    };
    let stays = |one: &&Suggestion| one.cost.host == Bytes::ZERO;
    let all: Vec<&Suggestion> = advice.alone.iter().filter(stays).collect();
    let mut kinds = Vec::new();
    for one in &all {
        if !kinds.contains(&kind(one)) {
            kinds.push(kind(one));
        }
    }
    let said = kinds.into_iter().filter_map(|of| {
        let alike = || all.iter().filter(|one| kind(one) == of);
        let one = alike().rfind(|one| one.fits).or(alike().next())?;
        let saved = Bytes::new(advice.saved(one).unsigned_abs());
        let enough = if one.fits { ", which is enough" } else { "" };
        Some(format!("{} saves {saved} {}{enough}", flags(one), price(one)))
    });
    let said: Vec<String> = said.collect();
    if said.is_empty() { "no single change saves anything".to_owned() } else { said.join("; ") }
}

/// Says what a suggestion costs.
fn price(one: &Suggestion) -> String {
    let steps = one.changes.iter().find_map(|change| match change {
        Change::MicroBatch(_, steps) => Some(format!("for {steps} smaller micro-steps")),
        _ => None,
    });
    let compute = one
        .cost
        .is_more_compute()
        .then(|| format!("for {:+.0} % compute", one.cost.compute_percent()));
    let numbers = match one.cost.departure.reach() {
        Reach::Same | Reach::Rounding => None,
        Reach::FewerBits => Some("for numbers in fewer bits".to_owned()),
        Reach::AnotherTraining => Some("and trains something else".to_owned()),
    };
    let all: Vec<String> = [steps, compute, numbers].into_iter().flatten().collect();
    if all.is_empty() { "at no cost".to_owned() } else { all.join(" ") }
}

/// Says which card is the smallest, as it is and with each of the suggestions that are shown.
fn cards(advice: &Advice) -> Vec<String> {
    let many = advice.card.looked_at;
    let mut lines = vec![match &advice.card.card {
        Some(card) => format!(
            "as it is: {} ({}, sim:{}) is the smallest of {many} built-in cards that fits",
            card.product, card.total, card.name
        ),
        None => format!("as it is: none of the {many} built-in cards is large enough"),
    }];
    let mut with: Vec<(String, Vec<usize>)> = Vec::new();
    for (number, smallest) in (1..).zip(&advice.cards_with) {
        let name = smallest
            .card
            .as_ref()
            .map_or("none of them".to_owned(), |card| format!("{} ({})", card.product, card.total));
        match with.iter_mut().find(|(other, _)| *other == name) {
            Some((_, numbers)) => numbers.push(number),
            None => with.push((name, vec![number])),
        }
    }
    if advice.to_fit.is_empty() {
        lines.extend(with.iter().map(|(name, _)| format!("with what comes nearest: {name}")));
    } else {
        lines.extend(with.iter().map(|(name, numbers)| {
            let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
            format!("with {} below: {name}", numbers.join(", "))
        }));
    }
    lines
}

fn to_fit(advice: &Advice, pasted: &Pasted, paint: Paint) -> String {
    let size = advice.estimate.setup.micro_batch;
    if let Some(nearest) = &advice.nearest {
        let mut text = heading("Nothing that is known would make it fit; nearest comes", paint);
        text.push_str(&row(advice, nearest));
        return text;
    }
    let in_place = format!("Fits in place of micro-batch {size}, what changes least first");
    let mut text = heading(&in_place, paint);
    let mut said = "";
    for (number, one) in (1..).zip(advice.to_fit.iter().take(SHOWN)) {
        let words = match one.standing {
            Standing::Front => "",
            Standing::Beaten(_) => "   One above costs no more than these and takes no more:\n",
            Standing::MoreThanNeeded => {
                "   A part of each of these is enough; all of it leaves more room:\n"
            }
        };
        if words != said {
            text.push_str(words);
            said = words;
        }
        text.push_str(&format!("{number:>2} {}\n", numbers(advice, one).trim_end()));
        match pasted(&one.changes, None) {
            Some(command) => text.push_str(&command_lines("   ", &command)),
            None => text.push_str(&format!("   {}\n", flags(one))),
        }
    }
    let hidden = advice.to_fit.len().saturating_sub(SHOWN);
    if hidden > 0 {
        text.push_str(&format!("   and {hidden} more with --json\n"));
    }
    text
}

/// Returns a heading, with what the columns below it are.
fn heading(words: &str, paint: Paint) -> String {
    format!(
        "\n{}\n   {:>9} {:>10} {:>5} {:>8}  numbers\n",
        paint.bold(words),
        "takes",
        "saves",
        "up to",
        "compute"
    )
}

/// Returns a row: numbers, then the flags, on a line of their own where there are many.
fn row(advice: &Advice, one: &Suggestion) -> String {
    let (numbers, flags) = (numbers(advice, one), flags(one));
    if FLAGS + flags.len() <= 80 {
        format!("   {numbers} {flags}\n")
    } else {
        format!("   {}\n       {flags}\n", numbers.trim_end())
    }
}

fn numbers(advice: &Advice, one: &Suggestion) -> String {
    let saved = advice.saved(one);
    let size = Bytes::new(saved.unsigned_abs());
    let saved = if saved < 0 { format!("-{size}") } else { size.to_string() };
    let largest = match one.largest {
        None => String::new(),
        Some(0) => "-".to_owned(),
        Some(largest) => grouped(largest),
    };
    let compute = match format!("{:+.0} %", one.cost.compute_percent()).as_str() {
        "+0 %" | "-0 %" => "as much".to_owned(),
        percent => percent.to_owned(),
    };
    let reach = match one.cost.departure.reach() {
        Reach::AnotherTraining => "differ",
        other => other.words(),
    };
    let taken = one.taken.to_string();
    format!("{taken:>9} {saved:>10} {largest:>5} {compute:>8}  {reach:<10}")
}

/// Returns its flags as they are typed.
pub fn flags(one: &Suggestion) -> String {
    one.changes.iter().map(Change::typed).collect::<Vec<_>>().join(" ")
}

/// Explains each kind of change that is shown once, and the columns.
fn meanings(advice: &Advice, shown: &[&Suggestion]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut explained: Vec<String> = Vec::new();
    for change in shown.iter().flat_map(|one| &one.changes) {
        let meaning = change.meaning(&advice.estimate.setup);
        let kind = format!("{}: {meaning}", change.flags()[0].0);
        if explained.contains(&kind) {
            continue;
        }
        explained.push(kind);
        let there = in_transformers::written(
            change,
            advice.estimate.task,
            advice.estimate.setup.transformers,
        );
        let there = there.map_or(String::new(), |there| format!("; in transformers {there}"));
        lines.push(format!("{}: {meaning}{there}", change.typed()));
    }
    let paged = shown.iter().map(|one| one.cost.host).max().filter(|host| *host > Bytes::ZERO);
    if let Some(host) = paged {
        lines.push(format!(
            "a paged optimizer moves up to {host} a step over the link to the host, when the GPU \
             is full"
        ));
    }
    let sent = |one: &&Suggestion| one.cost.sent > Bytes::ZERO;
    if let Some(most) = shown.iter().filter(|one| sent(one)).map(|one| one.cost.sent).max() {
        lines.push(format!(
            "each device sends the others up to {most} of gradients a step; --json says how much \
             with each"
        ));
    }
    if !shown.is_empty() {
        lines.push(
            "takes: of what is there, and of more where that is too little; up to: the largest \
             micro-batch that fits with it; compute: operations of matrix products a token beside \
             now, as PyTorch's FlopCounterMode counts them (a layer's second run ends at the last \
             tensor that backward needs); numbers: the same bit for bit, the same but for rounding, in fewer bits, or they \
             differ since something else is trained"
                .to_owned(),
        );
    }
    lines
}
