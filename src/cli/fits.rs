//! What runs, worked out from traces: the estimated side of [`Fits`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::cli::error::CliError;
use crate::cli::job::Job;
use crate::cli::target::ChosenGpu;
use crate::memory::footprint::Footprint;
use crate::memory::largest::{largest_beside_headroom, runs_beside_headroom};
use crate::memory::trace::{Category, Event, Trace};
use crate::plan::capacity::{Capacity, OutsideAllocator};
use crate::plan::result::Estimate;
use crate::plan::together::Fits;
use crate::step::setup::Setup;
use crate::units::{AccumulationSteps, Bytes, MicroBatch};

/// From this many micro-steps on, more of them change nothing.
///
/// The peaks are the same from two on. The least capacity creeps up over a few more, by 9% at most
/// in 96 setups of GPT-2, Llama-3.2-1B and Qwen2.5-0.5B at 2 to 32 micro-steps, because fragments
/// gather; none of them moved after the sixth.
pub const SETTLED: u64 = 6;

/// A step that was looked at, by micro-batch and micro-steps.
#[derive(Debug, Clone)]
struct Kept {
    sizes: (u64, u64),
    trace: Rc<Trace>,
    footprint: Option<Footprint>,
}

/// How much is worked out about a step's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What is of interest where it fits with room to spare.
    Peaks,
    /// The least capacity too.
    All,
}

/// The most steps that are kept: a search looks again at its last few.
const KEPT: usize = 3;

/// A job on one kind of GPU, or on a capacity alone.
#[derive(Debug)]
pub struct OnDevice<'a> {
    /// The job.
    pub job: &'a Job,
    /// The GPU, if any.
    pub gpu: Option<&'a ChosenGpu>,
    /// What its gradients take, where replicas need to know.
    pub gradients: Bytes,
    /// What the device spends beside the step.
    pub outside: OutsideAllocator,
    /// What the caching allocator may take, where that is known.
    pub capacity: Option<Capacity>,
    /// Steps looked at lately.
    kept: RefCell<VecDeque<Kept>>,
}

impl<'a> OnDevice<'a> {
    /// Works out what a device spends beside the step, and what is left for it.
    ///
    /// # Errors
    /// When the step cannot be traced.
    pub fn new(job: &'a Job, gpu: Option<&'a ChosenGpu>) -> Result<OnDevice<'a>, CliError> {
        let (gradients, outside) = (Bytes::ZERO, OutsideAllocator::default());
        let kept = RefCell::default();
        let mut device = OnDevice { job, gpu, gradients, outside, capacity: None, kept };
        // Only replicas keep their gradients twice; a trace is not made for nothing.
        if job.data_parallel().get() > 1 {
            let trace = device.trace(MicroBatch::ONE, AccumulationSteps::ONE)?;
            device.gradients = most_at_once(&trace, Category::Gradients);
        }
        device.outside = job.outside(gpu, device.gradients);
        device.capacity = job.capacity_on(gpu, &device.outside);
        Ok(device)
    }

    /// Returns the setup at these sizes on this device.
    pub fn setup(&self, micro_batch: MicroBatch, accumulation: AccumulationSteps) -> Setup {
        self.job.setup_on(self.gpu, micro_batch, accumulation)
    }

    /// Returns the trace of a step of these sizes, with no more micro-steps than change anything.
    ///
    /// # Errors
    /// When the setup is not modelled yet.
    pub fn trace(
        &self,
        micro_batch: MicroBatch,
        accumulation: AccumulationSteps,
    ) -> Result<Rc<Trace>, CliError> {
        let settled = AccumulationSteps::new(SETTLED).unwrap_or(AccumulationSteps::ONE);
        let accumulation = accumulation.min(settled);
        let sizes = (micro_batch.get(), accumulation.get());
        if let Some(known) = self.kept.borrow().iter().find(|known| known.sizes == sizes) {
            return Ok(Rc::clone(&known.trace));
        }
        let setup = self.setup(micro_batch, accumulation);
        let trace = Rc::new(self.job.trace(&setup)?);
        let mut kept = self.kept.borrow_mut();
        kept.push_back(Kept { sizes, trace: Rc::clone(&trace), footprint: None });
        if kept.len() > KEPT {
            kept.pop_front();
        }
        Ok(trace)
    }

    /// Returns what a step of these sizes needs, with no more micro-steps than change anything.
    fn footprint(
        &self,
        micro_batch: MicroBatch,
        accumulation: AccumulationSteps,
        detail: Detail,
    ) -> Result<Footprint, CliError> {
        let trace = self.trace(micro_batch, accumulation)?;
        let same = |known: &&mut Kept| Rc::ptr_eq(&known.trace, &trace);
        if let Some(Kept { footprint: Some(known), .. }) =
            self.kept.borrow_mut().iter_mut().find(same)
            && (detail == Detail::Peaks || known.min_capacity.is_some())
        {
            return Ok(known.clone());
        }
        let footprint = match detail {
            Detail::Peaks => Footprint::peaks_of(&trace)?,
            Detail::All => Footprint::of(&trace)?,
        };
        if let Some(known) = self.kept.borrow_mut().iter_mut().find(same) {
            known.footprint = Some(footprint.clone());
        }
        Ok(footprint)
    }

    /// Returns the memory of a step of these sizes.
    ///
    /// # Errors
    /// When the setup is not modelled yet, or asks for more than any device has.
    pub fn estimate(
        &self,
        micro_batch: MicroBatch,
        accumulation: AccumulationSteps,
    ) -> Result<Estimate, CliError> {
        let footprint = self.footprint(micro_batch, accumulation, Detail::All)?;
        Ok(self.with(footprint, micro_batch, accumulation))
    }

    /// Returns the memory of a plan's step: of two micro-steps where nothing is refused to them,
    /// since their peaks are those of any number; else in all detail of as many as change anything.
    ///
    /// # Errors
    /// When the setup is not modelled yet, or asks for more than any device has.
    pub fn planned(
        &self,
        micro_batch: MicroBatch,
        accumulation: AccumulationSteps,
        detail: Detail,
    ) -> Result<Estimate, CliError> {
        let two = AccumulationSteps::TWO;
        let footprint = self.footprint(micro_batch, accumulation.min(two), detail)?;
        if footprint.peak_reserved > self.capacity_bytes() {
            return self.estimate(micro_batch, accumulation);
        }
        let mut estimate = self.with(footprint, micro_batch, accumulation);
        if accumulation > two {
            let line =
                format!("memory is that of 2 micro-steps; {accumulation} have the same peaks");
            estimate.assumptions.push(line);
        }
        Ok(estimate)
    }

    fn with(
        &self,
        footprint: Footprint,
        micro_batch: MicroBatch,
        accumulation: AccumulationSteps,
    ) -> Estimate {
        let settings = &self.job.settings;
        Estimate {
            model: self.job.model.name.clone(),
            setup: self.setup(micro_batch, accumulation),
            task: self.job.model.config.task(),
            image_size: self.job.model.config.image_size(),
            tuning: settings.tuning.clone(),
            footprint,
            outside: self.outside.clone(),
            capacity: self.capacity,
            largest_micro_batch: None,
            versions: settings.versions.clone(),
            assumptions: settings.assumptions.clone(),
            notes: settings.notes.clone(),
            hints: Vec::new(),
        }
    }

    /// Returns what is left free on purpose; nothing where no capacity is known.
    fn headroom(&self) -> Bytes {
        self.capacity.map_or(Bytes::ZERO, |capacity| capacity.headroom)
    }

    /// Whether a step runs with the headroom left free, and where the device gives it all the same.
    fn runs_beside_headroom(&self, trace: &Trace) -> bool {
        runs_beside_headroom(trace, self.capacity_bytes(), self.headroom())
    }

    /// Returns the bytes that the caching allocator may take; nothing where no capacity is known.
    pub fn capacity_bytes(&self) -> Bytes {
        self.capacity.map_or(Bytes::ZERO, |capacity| capacity.bytes)
    }
}

impl Fits for OnDevice<'_> {
    type Error = CliError;

    fn largest(&mut self, accumulation: AccumulationSteps) -> Result<u64, CliError> {
        let limit = self.job.settings.search_limit();
        let (capacity, headroom) = (self.capacity_bytes(), self.headroom());
        let found = largest_beside_headroom(capacity, headroom, limit, |micro_batch| {
            self.trace(micro_batch, accumulation)
        })?;
        Ok(found.micro_batch.map_or(0, MicroBatch::get))
    }

    fn runs(
        &mut self,
        micro_batch: MicroBatch,
        accumulation: AccumulationSteps,
    ) -> Result<bool, CliError> {
        if micro_batch > self.job.settings.search_limit() {
            return Ok(false);
        }
        let two = AccumulationSteps::TWO;
        if accumulation == AccumulationSteps::ONE {
            // The search for what does run starts at one sample: its trace is no loss.
            let of_one = self.trace(MicroBatch::ONE, two)?;
            if least_of_many(&of_one, micro_batch) > self.capacity_bytes() {
                return Ok(false);
            }
            let trace = self.trace(micro_batch, accumulation)?;
            return Ok(self.runs_beside_headroom(&trace));
        }
        // Where nothing is refused, more micro-steps change nothing: peak reserved is the same.
        let footprint = self.footprint(micro_batch, accumulation.min(two), Detail::Peaks)?;
        if footprint.peak_reserved <= self.capacity_bytes() {
            return Ok(true);
        }
        Ok(self.runs_beside_headroom(&*self.trace(micro_batch, accumulation)?))
    }
}

/// Returns what a micro-batch takes at least, judged by the trace of one sample: one tensor of the
/// size of its logits, which are in proportion, and the parameters.
///
/// Not all that is told apart as logits: a tensor that has their size by chance (a head's gradient,
/// where the sequence is as long as the model is wide) does not grow.
fn least_of_many(of_one: &Trace, micro_batch: MicroBatch) -> Bytes {
    let logits = of_one.blocks.iter().filter(|block| block.category == Category::LogitsLoss);
    let largest = logits.map(|block| block.bytes.get()).max().unwrap_or(0);
    let logits = largest.saturating_mul(micro_batch.get());
    Bytes::new(logits.saturating_add(most_at_once(of_one, Category::Parameters).get()))
}

/// Returns the most bytes of a category that are alive at once, as requested.
pub fn most_at_once(trace: &Trace, category: Category) -> Bytes {
    let (mut alive, mut most) = (Bytes::ZERO, Bytes::ZERO);
    for event in &trace.events {
        let (id, born) = match *event {
            Event::Alloc(id) => (id, true),
            Event::Free(id) => (id, false),
        };
        let Some(block) = trace.blocks.get(id.0 as usize).filter(|b| b.category == category) else {
            continue;
        };
        if born {
            alive += block.bytes;
        } else {
            alive = alive.saturating_sub(block.bytes);
        }
        most = most.max(alive);
    }
    most
}
