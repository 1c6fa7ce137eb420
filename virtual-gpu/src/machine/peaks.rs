//! The most that was in use, by GPU and by process: kept in the state file when its holders are gone.

use std::sync::atomic::Ordering::SeqCst;

use super::Locked;
use super::process::Identity;
use super::table::{Holder, MAX_RECORDS, Record};

/// The peaks of a scenario so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Every GPU and then every MIG instance, as `Scenario::places` has them.
    pub places: Vec<PlacePeak>,
    /// Every process that held memory, in the order in which they first did.
    pub processes: Vec<ProcessPeak>,
    /// Pairs of process and place that there was no room to record.
    pub unrecorded: u64,
}

/// The most that was in use at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacePeak {
    /// Index of the place.
    pub place: usize,
    /// What all processes held at once, the scenario's own neighbours included.
    pub peak_bytes: u64,
}

/// The most that one process held at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessPeak {
    /// Which process: ids are reused, the pair is not.
    pub process: Identity,
    /// Index of the place.
    pub place: usize,
    /// Contexts and allocations together.
    pub peak_bytes: u64,
    /// What it was refused, if it was.
    pub refused: Option<Refused>,
}

/// Requests of one process that one place had no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// How many.
    pub times: u64,
    /// Bytes that the last one asked for.
    pub wanted_bytes: u64,
    /// Bytes that the process could have got then.
    pub left_bytes: u64,
}

impl Locked<'_> {
    /// Returns what was in use at most, since the state file was made.
    pub fn peaks(&self) -> Peaks {
        let places = 0..self.scenario.places.len();
        let peak = |place: usize| self.table.place_peaks[place].load(SeqCst);
        let wanted = self.table.records_wanted.load(SeqCst);
        Peaks {
            places: places.map(|place| PlacePeak { place, peak_bytes: peak(place) }).collect(),
            processes: self.records().map(process_peak).collect(),
            unrecorded: wanted.saturating_sub(MAX_RECORDS as u64),
        }
    }

    /// Raises the peaks that `holder` has a part in, after it has taken more.
    pub(super) fn note_peak(&self, holder: &Holder) {
        let record = holder.record.load(SeqCst).checked_sub(1);
        if let Some(record) = record.and_then(|index| self.table.records.get(index as usize)) {
            record.peak.fetch_max(self.bytes_of(holder), SeqCst);
        }
        let place = holder.place.load(SeqCst) as usize;
        // What dead processes held is let go of late, and must not make a peak.
        if self.used(place) > self.table.place_peaks[place].load(SeqCst) {
            self.reap();
        }
        self.table.place_peaks[place].fetch_max(self.used(place), SeqCst);
        // Cards come first among the places: the card of an instance has its own index.
        let card = self.scenario.places[place].gpu;
        if card != place {
            self.table.place_peaks[card].fetch_max(self.used(card), SeqCst);
        }
    }

    /// Notes that this process asked for `wanted` bytes at a place when it could have got `left`.
    pub fn note_refusal(&self, place: usize, wanted: u64, left: u64) {
        let index = self.record_of(self.me, place).checked_sub(1);
        if let Some(record) = index.and_then(|index| self.table.records.get(index as usize)) {
            record.left.store(left, SeqCst);
            record.refused.store(wanted, SeqCst);
            record.refusals.fetch_add(1, SeqCst);
        }
    }

    /// Returns the record of a process at a place, as an index plus one; zero when all are taken.
    pub(super) fn record_of(&self, who: Identity, place: usize) -> u64 {
        let same = |record: &Record| {
            let ProcessPeak { process, place: at, .. } = process_peak(record);
            process == who && at == place
        };
        if let Some(index) = self.records().position(same) {
            return index as u64 + 1;
        }
        let index = self.table.records_wanted.fetch_add(1, SeqCst);
        let Some(record) = self.table.records.get(index as usize) else {
            return 0;
        };
        record.start.store(who.start, SeqCst);
        record.place.store(place as u64, SeqCst);
        record.peak.store(0, SeqCst);
        record.refusals.store(0, SeqCst);
        record.pid.store(u64::from(who.pid), SeqCst);
        index + 1
    }

    fn records(&self) -> impl Iterator<Item = &Record> {
        let wanted = self.table.records_wanted.load(SeqCst) as usize;
        let taken = &self.table.records[..wanted.min(MAX_RECORDS)];
        taken.iter()
    }
}

fn process_peak(record: &Record) -> ProcessPeak {
    ProcessPeak {
        process: Identity { pid: record.pid.load(SeqCst) as u32, start: record.start.load(SeqCst) },
        place: record.place.load(SeqCst) as usize,
        peak_bytes: record.peak.load(SeqCst),
        refused: match record.refusals.load(SeqCst) {
            0 => None,
            times => Some(Refused {
                times,
                wanted_bytes: record.refused.load(SeqCst),
                left_bytes: record.left.load(SeqCst),
            }),
        },
    }
}
