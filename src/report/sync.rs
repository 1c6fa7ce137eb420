//! When gradients are summed, what that sends and what it keeps, in words and for programs.

use serde_json::{Value, json};

use crate::plan::sync::{Sharing, Sync, Traffic, When};
use crate::report::text::{Paint, item, lines, table};
use crate::units::Bytes;

fn find(sync: &Sync, sharing: Sharing, when: When) -> Option<&Traffic> {
    sync.all.iter().find(|one| one.sharing == sharing && one.when == when)
}

/// Says what each device sends in an optimizer step under DistributedDataParallel.
pub fn line(sync: &Sync) -> Option<String> {
    let sent = |when| find(sync, Sharing::Ddp, when).map(|one| one.sent);
    let (once, each) = (sent(When::Once)?, sent(When::EachMicroStep)?);
    if once == each {
        return Some(format!("each GPU sends {once} an optimizer step (DDP, by a ring)"));
    }
    Some(match sync.when {
        When::Once => format!(
            "each GPU sends {once} an optimizer step (DDP, by a ring): gradients are summed in the \
             last micro-step, the others run under no_sync(){}; in every micro-step it would be \
             {each}",
            if sync.by_default { " (default)" } else { "" }
        ),
        When::EachMicroStep => format!(
            "each GPU sends {each} an optimizer step (DDP, by a ring), since gradients are summed \
             in every micro-step; --grad-sync last would send {once}, and takes no more memory"
        ),
    })
}

/// Renders what the policies send under each way of sharing; nothing where they are the same.
pub fn render(sync: &Sync, paint: Paint) -> String {
    let differs = |one: &Traffic| {
        let each = find(sync, one.sharing, When::EachMicroStep);
        each.is_some_and(|each| each.sent != one.sent)
    };
    if !sync.all.iter().any(differs) {
        return String::new();
    }
    let header = ["", "every micro-step", "last alone", "which keeps", "better"];
    let mut table = table(&header, &[1, 2, 3]);
    for sharing in Sharing::ALL {
        let Some(each) = find(sync, sharing, When::EachMicroStep) else { continue };
        let once = find(sync, sharing, When::Once);
        table.add_row([
            sharing.name().to_owned(),
            each.sent.to_string(),
            once.map_or("refused".to_owned(), |once| once.sent.to_string()),
            once.map_or(String::new(), |once| match once.kept {
                Bytes::ZERO => "nothing more".to_owned(),
                kept => format!("{kept} more"),
            }),
            (if each.best { "every" } else { "last" }).to_owned(),
        ]);
    }
    let heading = "Gradients summed: what each GPU sends an optimizer step, by arithmetic";
    let mut text = format!("\n{}\n{}", paint.bold(heading), lines(&table));
    let no_room = find(sync, Sharing::Fsdp, When::Once).filter(|one| !one.best);
    text.extend(no_room.zip(sync.room_when_sharded).map(|(one, room)| {
        item(&format!(
            "FSDP keeps gradients whole under no_sync(): {} more on each GPU, where about {room} \
             would be free with weights, gradients and optimizer state divided",
            one.kept
        ))
    }));
    text
}

/// Returns the array of a plan's `gradient_sync`.
pub fn value(sync: &Sync) -> Value {
    let one = |one: &Traffic| {
        json!({
            "sharing": one.sharing.name(),
            "no_sync": one.when == When::Once,
            "chosen": one.when == sync.when,
            "best": one.best,
            "sent_bytes": one.sent,
            "kept_bytes": one.kept,
        })
    };
    sync.all.iter().map(one).collect()
}
