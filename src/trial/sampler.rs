//! A thread that reads GPUs while a command runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::probe::meter::{Meter, Reading};
use crate::trial::sampled::Folded;
use crate::trial::tree;

/// How often GPUs are read. PyTorch keeps what it has once taken, so that its peak lasts.
pub const EVERY: Duration = Duration::from_millis(20);
/// Readings may take this part of the time at most: on a busy driver each takes milliseconds.
const SHARE: u32 = 10;
/// How long the driver may take for a reading.
///
/// Source: pytorch/pytorch#97585, where nvidia-smi took 60 s on a runner with a crashed GPU.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long what an earlier run held may take to come back.
const SETTLE: Duration = Duration::from_secs(3);

/// Readings that go on.
#[derive(Debug)]
pub struct Sampler {
    /// Dropped, it ends the thread.
    stop: Sender<()>,
    answer: Receiver<Vec<Folded>>,
}

impl Sampler {
    /// Reads every GPU once, then starts the thread that goes on with it.
    ///
    /// Where less is free than `expected`, what an earlier run held may still be on its way back:
    /// that is waited for, a while.
    ///
    /// # Errors
    /// In words, when a GPU cannot be read, or the driver hangs.
    pub fn start(
        meter: Arc<dyn Meter>,
        expected: Vec<Option<Reading>>,
    ) -> Result<(Sampler, Vec<Reading>), String> {
        let (stop, stopped) = channel();
        let (first, begun) = channel();
        let (answers, answer) = channel();
        std::thread::spawn(move || {
            let before = settled(meter.as_ref(), &expected);
            let going = before.is_ok();
            let folded = before.iter().flatten().cloned().map(Folded::new).collect();
            // Nobody listens any more where this comes too late.
            if first.send(before).is_ok() && going {
                let _ = answers.send(sample(meter.as_ref(), folded, &stopped));
            }
        });
        let before = begun.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            Err(format!("the driver did not answer within {} seconds", PATIENCE.as_secs()))
        })?;
        Ok((Sampler { stop, answer }, before))
    }

    /// Ends the readings; `None` when the driver hangs.
    pub fn stop(self) -> Option<Vec<Folded>> {
        drop(self.stop);
        self.answer.recv_timeout(PATIENCE).ok()
    }
}

/// Reads every GPU, until as much is free as was expected or it is known to stay so.
fn settled(meter: &dyn Meter, expected: &[Option<Reading>]) -> Result<Vec<Reading>, String> {
    let begun = Instant::now();
    loop {
        let all = (0..expected.len()).map(|gpu| meter.read(gpu));
        let all = all.collect::<Result<Vec<_>, _>>()?;
        let back = |(now, then): (&Reading, &Option<Reading>)| {
            then.as_ref().is_none_or(|then| now.used <= then.used)
        };
        if all.iter().zip(expected).all(back) || begun.elapsed() > SETTLE {
            return Ok(all);
        }
        std::thread::sleep(EVERY);
    }
}

fn sample(meter: &dyn Meter, mut gpus: Vec<Folded>, stopped: &Receiver<()>) -> Vec<Folded> {
    let mut ours = BTreeSet::new();
    loop {
        let begun = Instant::now();
        for (gpu, folded) in gpus.iter_mut().enumerate() {
            let reading = meter.read(gpu);
            // Who was ours once is so to its end, when it has no parent left to be known by.
            for (pid, _) in reading.iter().flat_map(|reading| &reading.processes) {
                if !ours.contains(pid) && tree::is_descendant(*pid) {
                    ours.insert(*pid);
                }
            }
            folded.take_in(reading, &ours);
        }
        let pause = EVERY.max(begun.elapsed() * SHARE);
        match stopped.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return gpus,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::trial::outcome::PeakSource;
    use crate::units::Bytes;

    /// Gives one reading after the other, then the last for ever.
    struct Script(Mutex<Vec<Result<u64, &'static str>>>);

    impl Script {
        fn new(mib: &[Result<u64, &'static str>]) -> Arc<Script> {
            Arc::new(Script(Mutex::new(mib.iter().rev().copied().collect())))
        }

        fn left(&self) -> usize {
            self.0.lock().unwrap().len()
        }
    }

    impl Meter for Script {
        fn read(&self, _: usize) -> Result<Reading, String> {
            let mut script = self.0.lock().unwrap();
            let next = if script.len() > 1 { script.pop() } else { script.last().copied() };
            let used = Bytes::mib(next.unwrap()?);
            Ok(Reading { used, free: Bytes::gib(8) - used, processes: Vec::new() })
        }
    }

    fn peak(script: &Arc<Script>, expected: Option<Reading>) -> (u64, Vec<Folded>) {
        let (sampler, before) = Sampler::start(script.clone(), vec![expected]).unwrap();
        while script.left() > 1 {
            std::thread::yield_now();
        }
        (before[0].used.get() >> 20, sampler.stop().unwrap())
    }

    #[test]
    fn the_highest_reading_counts_and_failures_are_skipped() {
        let script = Script::new(&[Ok(100), Ok(400), Err("lost"), Ok(900), Ok(300)]);
        let (before, folded) = peak(&script, None);
        assert_eq!((before, folded[0].peak()), (100, (Bytes::mib(800), PeakSource::Device)));
        assert_eq!(folded[0].failure.as_deref(), Some("lost"));
    }

    #[test]
    fn what_an_earlier_run_held_is_waited_for() {
        let script = Script::new(&[Ok(700), Ok(500), Ok(100), Ok(100)]);
        let expected = Reading { used: Bytes::mib(100), ..Reading::default() };
        assert_eq!(peak(&script, Some(expected)).0, 100);
    }

    #[test]
    fn a_gpu_that_cannot_be_read_is_an_error_before_anything_is_started() {
        let script = Script::new(&[Err("NVML 15")]);
        assert_eq!(Sampler::start(script, vec![None]).unwrap_err(), "NVML 15");
    }
}
