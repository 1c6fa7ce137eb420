//! What the readings of a run come to: the most that its processes had of each GPU, and whether
//! others took memory meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use crate::probe::meter::Reading;
use crate::trial::outcome::PeakSource;
use crate::units::Bytes;

/// How much others may grow without a word: what a desktop or a monitor does all the time.
const NOISE: Bytes = Bytes::mib(64);

/// The readings of one GPU, folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// The reading before the command was started.
    pub before: Reading,
    /// The most that the command's processes held at once, as the driver tells of them.
    of_processes: Option<Bytes>,
    /// The most that was in use beyond what was before.
    of_device: Bytes,
    /// The most that others held.
    of_others: Bytes,
    /// The most that each of the command's processes held.
    pub processes: BTreeMap<u32, Bytes>,
    /// Readings that the driver gave.
    pub readings: u64,
    /// Why the last reading that it did not give failed.
    pub failure: Option<String>,
}

impl Folded {
    /// Starts with the reading before the run.
    pub fn new(before: Reading) -> Folded {
        let of_others = before.used;
        Folded {
            before,
            of_processes: None,
            of_device: Bytes::ZERO,
            of_others,
            processes: BTreeMap::new(),
            readings: 0,
            failure: None,
        }
    }

    /// Takes a reading in; `ours` are the command's processes.
    pub fn take_in(&mut self, reading: Result<Reading, String>, ours: &BTreeSet<u32>) {
        let reading = match reading {
            Ok(reading) => reading,
            Err(failure) => {
                self.failure = Some(failure);
                return;
            }
        };
        self.readings += 1;
        self.of_device = self.of_device.max(reading.used.saturating_sub(self.before.used));
        let mine = || reading.processes.iter().filter(|(pid, _)| ours.contains(pid));
        let known: Option<Vec<(u32, Bytes)>> =
            mine().map(|(pid, used)| Some((*pid, (*used)?))).collect();
        let Some(known) = known else { return };
        let sum: Bytes = known.iter().map(|(_, used)| *used).sum();
        if !known.is_empty() {
            self.of_processes = self.of_processes.max(Some(sum));
            self.of_others = self.of_others.max(reading.used.saturating_sub(sum));
        }
        for (pid, used) in known {
            let most = self.processes.entry(pid).or_default();
            *most = used.max(*most);
        }
    }

    /// Returns the peak, and how it is known.
    pub fn peak(&self) -> (Bytes, PeakSource) {
        match self.of_processes {
            _ if self.readings == 0 => (Bytes::ZERO, PeakSource::Unknown),
            Some(bytes) => (bytes, PeakSource::Processes),
            None => (self.of_device, PeakSource::Device),
        }
    }

    /// Returns how much others took during the run, where that can be told and is worth a word.
    pub fn taken_by_others(&self) -> Option<Bytes> {
        let taken = self.of_others.saturating_sub(self.before.used);
        // The driver keeps a little for each process that it does not count as the process' own.
        let own = Bytes::mib(32 * self.processes.len() as u64);
        (taken > NOISE + own).then_some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(used: u64, processes: &[(u32, Option<u64>)]) -> Reading {
        let processes = processes.iter().map(|(pid, mib)| (*pid, mib.map(Bytes::mib))).collect();
        Reading { used: Bytes::mib(used), free: Bytes::mib(8_192 - used), processes }
    }

    fn fold(before: u64, readings: &[Reading]) -> Folded {
        let mut folded = Folded::new(reading(before, &[(9, Some(before))]));
        for reading in readings {
            folded.take_in(Ok(reading.clone()), &BTreeSet::from([7, 8]));
        }
        folded
    }

    #[test]
    fn the_peak_is_the_sum_of_the_commands_processes_at_one_moment() {
        let folded = fold(
            500,
            &[
                reading(3_500, &[(9, Some(500)), (7, Some(3_000))]),
                reading(3_000, &[(9, Some(500)), (7, Some(1_000)), (8, Some(1_500))]),
            ],
        );
        assert_eq!(folded.peak(), (Bytes::mib(3_000), PeakSource::Processes));
        assert_eq!(folded.processes[&8], Bytes::mib(1_500));
        assert_eq!(folded.taken_by_others(), None);
    }

    #[test]
    fn without_a_process_of_ours_it_is_what_the_device_has_more() {
        // Another namespace's numbers, and a driver that does not tell bytes.
        for processes in [&[(70_007, Some(2_000))][..], &[(7, None)]] {
            let folded = fold(500, &[reading(2_500, processes), reading(600, &[])]);
            assert_eq!(folded.peak(), (Bytes::mib(2_000), PeakSource::Device));
            assert_eq!(folded.taken_by_others(), None, "nobody can tell");
        }
        assert_eq!(fold(500, &[]).peak().1, PeakSource::Unknown);
    }

    #[test]
    fn a_neighbour_that_grows_is_told_from_the_command() {
        let folded = fold(500, &[reading(4_500, &[(9, Some(1_500)), (7, Some(3_000))])]);
        assert_eq!(folded.peak().0, Bytes::mib(3_000));
        assert_eq!(folded.taken_by_others(), Some(Bytes::mib(1_000)));
    }

    #[test]
    fn a_reading_that_fails_is_noted_and_changes_nothing() {
        let mut folded = fold(0, &[reading(100, &[(7, Some(100))])]);
        folded.take_in(Err("NVML 15 (GPU_IS_LOST)".to_owned()), &BTreeSet::new());
        assert_eq!(folded.peak().0, Bytes::mib(100));
        assert!(folded.failure.is_some() && folded.readings == 1);
    }
}
