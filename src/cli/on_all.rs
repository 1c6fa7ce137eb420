//! Several kinds of GPU, as one side of [`Fits`].

use crate::cli::error::CliError;
use crate::cli::fits::OnDevice;
use crate::cli::job::Job;
use crate::cli::target::ChosenGpu;
use crate::plan::together::Fits;
use crate::units::{AccumulationSteps, MicroBatch};

/// Several kinds of GPU: what runs is what runs on all of them.
#[derive(Debug)]
pub struct OnAll<F> {
    /// One of each kind.
    pub kinds: Vec<F>,
}

impl<'a> OnAll<OnDevice<'a>> {
    /// Takes the kinds of a job's GPUs, or its capacity alone.
    ///
    /// # Errors
    /// When the step cannot be traced.
    pub fn of(job: &'a Job) -> Result<OnAll<OnDevice<'a>>, CliError> {
        let kinds = match job.gpus.as_slice() {
            [] => vec![OnDevice::new(job, None)?],
            gpus => kinds(gpus)
                .into_iter()
                .map(|gpu| OnDevice::new(job, Some(gpu)))
                .collect::<Result<_, _>>()?,
        };
        Ok(OnAll { kinds })
    }
}

impl<F: Fits> Fits for OnAll<F> {
    type Error = F::Error;

    fn largest(&mut self, accumulation: AccumulationSteps) -> Result<u64, F::Error> {
        let mut smallest = None;
        for kind in &mut self.kinds {
            let largest = kind.largest(accumulation)?;
            smallest = Some(smallest.map_or(largest, |smallest: u64| smallest.min(largest)));
        }
        Ok(smallest.unwrap_or(0))
    }

    fn runs(
        &mut self,
        micro_batch: MicroBatch,
        accumulation: AccumulationSteps,
    ) -> Result<bool, F::Error> {
        for kind in &mut self.kinds {
            if !kind.runs(micro_batch, accumulation)? {
                return Ok(false);
            }
        }
        Ok(!self.kinds.is_empty())
    }
}

/// Returns one of each kind of GPU: what differs in no respect that memory depends on is one kind.
fn kinds(gpus: &[ChosenGpu]) -> Vec<&ChosenGpu> {
    let mut kinds: Vec<&ChosenGpu> = Vec::new();
    for gpu in gpus {
        if !kinds.iter().any(|other| other.is_alike(gpu)) {
            kinds.push(gpu);
        }
    }
    kinds
}

/// Returns the device with the least capacity, the first of equals.
pub fn weakest<'a, 'b>(devices: &'b [OnDevice<'a>]) -> Option<&'b OnDevice<'a>> {
    devices.iter().min_by_key(|device| device.capacity_bytes())
}
