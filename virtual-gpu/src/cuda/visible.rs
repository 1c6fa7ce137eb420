//! Which devices a process sees: CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER.

use crate::machine::Scenario;

/// Returns places by device ordinal.
///
/// Numbers count in CUDA's order, or NVML's under CUDA_DEVICE_ORDER=PCI_BUS_ID; UUIDs may be cut
/// short as long as they name one device; the first entry that names none ends the list. One MIG
/// instance at most is seen, and no whole card beside it.
///
/// Source: CUDA C++ Programming Guide, "CUDA Environment Variables"; MIG User Guide, "CUDA Device
/// Enumeration".
pub fn devices(scenario: &Scenario, wanted: Option<&str>, order: Option<&str>) -> Vec<usize> {
    let cards = match order {
        Some("PCI_BUS_ID") => (0..scenario.gpus.len()).collect(),
        _ => scenario.cuda_order.clone(),
    };
    let mut seen: Vec<usize> = Vec::new();
    match wanted {
        None => seen = cards.iter().filter_map(|card| usable(scenario, *card)).collect(),
        Some(list) => {
            for entry in list.split(',') {
                match named(scenario, &cards, entry.trim()) {
                    Some(place) if !seen.contains(&place) => seen.push(place),
                    _ => break,
                }
            }
        }
    }
    match seen.iter().find(|place| scenario.places[**place].mig.is_some()) {
        Some(instance) => vec![*instance],
        None => seen,
    }
}

/// Returns what a whole card stands for: itself, its first MIG instance, or nothing.
fn usable(scenario: &Scenario, card: usize) -> Option<usize> {
    if scenario.gpus[card].mig != Some(true) {
        return Some(card);
    }
    scenario.places.iter().position(|place| place.gpu == card && place.mig.is_some())
}

/// Returns the place that an entry of CUDA_VISIBLE_DEVICES names.
fn named(scenario: &Scenario, cards: &[usize], entry: &str) -> Option<usize> {
    if entry.starts_with("GPU-") || entry.starts_with("MIG-") {
        let mut places =
            (0..scenario.places.len()).filter(|p| scenario.uuid(*p).starts_with(entry));
        let place = places.next()?;
        return if places.next().is_some() {
            None
        } else if scenario.places[place].mig.is_some() {
            Some(place)
        } else {
            usable(scenario, place)
        };
    }
    usable(scenario, *cards.get(entry.parse::<usize>().ok()?)?)
}
