//! Runs a graph's statements on the tape, layer by layer recomputed where checkpointing says so,
//! and the loop of micro-steps and optimizer steps around it.

use std::rc::Rc;

use smallvec::SmallVec;

use crate::model::graph::{Dtype, Graph, Op, Statement, ValueId};
use crate::step::alike::{Alike, TEMPLATE};
use crate::step::checkpoint::{Frame, Input};
use crate::step::ops::Backward;
use crate::step::ops::attention::SdpaCall;
use crate::step::optimizer::OptimizerState;
use crate::step::recorder::Recorder;
use crate::step::setup::{Precision, Setup};
use crate::step::tape::{Checkpoint, Parameter, Tape};
use crate::step::tensor::{DType, Dims, Tensor, TensorData};
use crate::step::work::Count;
use crate::trace::{Phase, Trace};

/// Optimizer steps in a trace: the first makes the optimizer's state, the second is like all others.
const STEPS: u32 = 2;

/// A graph being run.
#[derive(Debug)]
pub struct Interpreter<'g, 's> {
    graph: &'g Graph,
    /// The autograd graph and the trace.
    pub tape: Tape<'s>,
    values: Vec<Option<Tensor>>,
    /// Whether the micro-step under way has changed weights for good, as only the first can.
    pub weights_changed: bool,
    /// Layers of which only some are run.
    pub alike: Option<&'g Alike>,
    /// Where in the autograd graph each of them begins.
    layers_of_nodes: Vec<(u32, Option<u8>)>,
    layers_of_parameters: Vec<Option<u8>>,
    /// Arithmetic, where it is counted.
    pub count: Option<Count>,
}

/// Runs two optimizer steps and returns their trace.
pub fn run(graph: &Graph, setup: &Setup) -> Trace {
    let alike = Alike::of(graph, setup.checkpointing);
    alike
        .and_then(|alike| run_with(graph, setup, Repeat::Recorded(Some(&alike))))
        .or_else(|| run_with(graph, setup, Repeat::Recorded(None)))
        .unwrap_or_default()
}

/// What is not run, because it does the same as something that is.
#[derive(Debug, Clone, Copy)]
enum Repeat<'a> {
    /// Micro-steps after the first, see [`repeat`](crate::step::repeat), and most of the layers that
    /// are alike.
    Recorded(Option<&'a Alike>),
    /// Nothing: the slow way, for a test that all come to the same.
    #[cfg_attr(not(test), expect(dead_code, reason = "what the recorded way is tested against"))]
    Run,
}

/// Runs two optimizer steps; nothing where layers are not as alike as they look.
fn run_with(graph: &Graph, setup: &Setup, repeat: Repeat) -> Option<Trace> {
    let recorder = Recorder::new();
    let micro_steps = u64::from(STEPS) * setup.accumulation.get();
    recorder.reserve(graph.statements.len(), usize::try_from(micro_steps).unwrap_or(usize::MAX));
    let mut tape = Tape::new(setup, Rc::clone(&recorder));
    tape.logits = graph.logits;
    tape.nodes.reserve(graph.statements.len());
    let alike = match repeat {
        Repeat::Recorded(alike) => alike,
        Repeat::Run => None,
    };
    let mut run = Interpreter::new(graph, tape, alike);
    run.load();
    let mut state = OptimizerState::default();
    let mut first = None;
    for _ in 0..STEPS {
        for _ in 0..setup.accumulation.get() {
            match (&first, repeat) {
                (Some(first), Repeat::Recorded(_)) => run.repeat(first),
                (None, Repeat::Recorded(Some(_))) => first = Some(run.recorded_micro_step()?),
                (None, Repeat::Recorded(None)) => first = run.recorded_micro_step(),
                (_, Repeat::Run) => run.micro_step(),
            }
        }
        run.tape.begin(Phase::Optimizer);
        let found_inf = (setup.precision == Precision::AmpFp16).then(|| run.tape.unscale());
        run.tape.clip_gradients();
        run.tape.optimizer_step(&mut state);
        drop(found_inf);
        run.tape.begin(Phase::ZeroGrad);
        run.tape.zero_grad();
    }
    let trace = recorder.finish();
    // What is alive at the end lives on: its frees are not part of the step.
    drop((run, state));
    Some(trace)
}

impl<'g, 's> Interpreter<'g, 's> {
    /// Gets ready to run a graph, or only some of the layers that are alike.
    pub fn new(graph: &'g Graph, tape: Tape<'s>, alike: Option<&'g Alike>) -> Interpreter<'g, 's> {
        Interpreter {
            graph,
            tape,
            values: vec![None; graph.value_count as usize],
            weights_changed: false,
            alike,
            layers_of_nodes: Vec::new(),
            layers_of_parameters: alike
                .map_or(Vec::new(), |alike| alike.layers_of_parameters(graph.trained.len())),
            count: None,
        }
    }

    fn dtype(&self, dtype: Dtype) -> DType {
        match dtype {
            Dtype::Model | Dtype::NotF16 if self.graph.quantized.is_some() => DType::F32,
            Dtype::NotF16 if self.loaded_dtype() == DType::F16 => DType::F32,
            Dtype::Model | Dtype::NotF16 => self.loaded_dtype(),
            Dtype::F32 => DType::F32,
            Dtype::I64 => DType::I64,
            Dtype::I32 => DType::I32,
            Dtype::Bool => DType::Bool,
            Dtype::Int8 | Dtype::Nf4 => DType::U8,
        }
    }

    /// What `from_pretrained` gives the model.
    const fn loaded_dtype(&self) -> DType {
        match self.tape.setup.precision {
            Precision::Fp32 | Precision::AmpBf16 | Precision::AmpFp16 => DType::F32,
            Precision::Bf16 => DType::Bf16,
            Precision::Fp16 => DType::F16,
        }
    }

    /// What autocast casts to, where the setup has it.
    fn autocast_dtype(&self) -> Option<DType> {
        match self.tape.setup.precision {
            Precision::AmpBf16 => Some(DType::Bf16),
            Precision::AmpFp16 => Some(DType::F16),
            Precision::Fp32 | Precision::Bf16 | Precision::Fp16 => None,
        }
    }

    /// Moves the model to the device.
    pub fn load(&mut self) {
        self.tape.begin(Phase::Load);
        for weight in &self.graph.weights {
            self.tape.recorder.set_module(weight.module.0);
            let dtype = match weight.dtype {
                // peft's preparation of a quantized model casts its parameters, not its buffers.
                Dtype::Model if weight.name.is_empty() => self.loaded_dtype(),
                other => self.dtype(other),
            };
            let numel = weight.sizes.iter().product::<i64>() as u64;
            let sizes = Dims::resolve(&weight.sizes, numel);
            let loaded = self.loaded_dtype();
            let tensor = match weight.dtype {
                Dtype::Nf4 => self.tape.load_nf4(sizes, loaded),
                Dtype::Int8 => self.tape.load_int8(sizes),
                _ => self.tape.empty(sizes, dtype),
            };
            self.values[weight.value.0 as usize] = Some(tensor);
        }
        let embeddings = self.graph.embeddings();
        for &index in &self.graph.trained {
            let value = self.graph.weights[index as usize].value;
            if let Some(tensor) = self.values[value.0 as usize].clone() {
                let is_embedding = embeddings.contains(&value);
                let parameter = Parameter { tensor, is_embedding, grad: None, accumulator: None };
                self.tape.parameters.push(parameter);
            }
        }
    }

    /// Gives each parameter its edge to the accumulator of a fresh graph.
    fn enter_graph(&mut self) {
        for (index, &weight) in self.graph.trained.iter().enumerate() {
            let weight = &self.graph.weights[weight as usize];
            let edge = self.tape.parameter_edge(index);
            let tensor = &self.tape.parameters[index].tensor;
            self.values[weight.value.0 as usize] = Some(Rc::new(TensorData {
                sizes: tensor.sizes,
                strides: tensor.strides,
                dtype: tensor.dtype,
                storage: tensor.storage.clone(),
                edge: Some(edge),
                is_view: false,
            }));
        }
    }

    /// Runs a forward and a backward.
    pub fn micro_step(&mut self) {
        self.tape.begin(Phase::Batch);
        let mut as_it_came = None;
        for (value, sizes, dtype) in &self.graph.batch {
            let dtype = self.dtype(*dtype);
            let numel = sizes.iter().product::<i64>() as u64;
            if self.graph.images == Some(*value) && dtype != DType::F32 {
                as_it_came = Some(self.tape.empty(Dims::resolve(sizes, numel), DType::F32));
            }
            let tensor = self.tape.empty(Dims::resolve(sizes, numel), dtype);
            self.values[value.0 as usize] = Some(tensor);
        }
        drop(as_it_came);
        self.tape.begin(Phase::Forward);
        self.tape.in_backward = false;
        self.enter_graph();
        self.tape.autocast.dtype = self.autocast_dtype();
        self.forward();
        self.tape.autocast.end();
        let loss = self.graph.loss.and_then(|loss| self.values[loss.0 as usize].take());
        self.tape.begin(Phase::Backward);
        self.tape.recorder.set_module(0);
        if let Some(loss) = loss {
            let scaled = self.tape.scale(&loss);
            drop(loss);
            let whole = scaled.clone();
            let scaled = match self.tape.setup.precision {
                Precision::AmpFp16 => self.tape.scaled_loss(&scaled),
                _ => scaled,
            };
            let ones = self.tape.scalar(scaled.dtype);
            self.tape.in_backward = true;
            self.tape.grad_enabled = false;
            self.backward(&scaled, ones.clone());
            self.tape.grad_enabled = true;
            drop((scaled, ones, whole));
        }
        self.tape.recorder.set_layer(None);
        self.tape.clear_graph();
        for (value, ..) in &self.graph.batch {
            self.values[value.0 as usize] = None;
        }
    }

    /// Runs all statements, but for those of layers that do as another one does.
    fn forward(&mut self) {
        let mut done = 0;
        let (alike, many) = (self.alike, self.graph.statements.len());
        for (layer, statements) in alike.iter().flat_map(|alike| alike.run.iter().enumerate()) {
            if layer == TEMPLATE + 1 {
                for &(made, read) in alike.iter().flat_map(|alike| &alike.carried) {
                    self.values[read.0 as usize] = self.values[made.0 as usize].take();
                }
            } else if done < statements.start {
                self.begin_layer(None);
                self.statements(done..statements.start);
            }
            self.begin_layer(u8::try_from(layer).ok());
            self.statements(statements.clone());
            done = statements.end;
        }
        self.begin_layer(None);
        self.statements(done..many);
    }

    fn begin_layer(&mut self, layer: Option<u8>) {
        if self.alike.is_some() {
            self.set_layer(layer);
            self.layers_of_nodes.push((self.tape.nodes.len() as u32, layer));
        }
    }

    /// Says whose backward runs now, where that is watched.
    pub fn note_layer(&mut self, node: u32) {
        if self.alike.is_none() {
            return;
        }
        let layer = match self.tape.nodes[node as usize].op {
            Backward::Accumulate { parameter } => self.layers_of_parameters[parameter as usize],
            _ => {
                let begun = self.layers_of_nodes.partition_point(|&(first, _)| first <= node);
                begun.checked_sub(1).and_then(|last| self.layers_of_nodes[last].1)
            }
        };
        self.set_layer(layer);
    }

    fn set_layer(&mut self, layer: Option<u8>) {
        self.tape.recorder.set_layer(layer);
        if let Some(count) = &mut self.count {
            count.set_layer(layer, self.alike);
        }
    }

    /// Runs statements; stops early when a recomputed layer has delivered all it must.
    fn statements(&mut self, range: std::ops::Range<usize>) {
        let graph = self.graph;
        for statement in &graph.statements[range] {
            match statement {
                Statement::Run { op, inputs, outputs } => {
                    self.operator(op, inputs, outputs);
                    if self.tape.recomputation_is_complete() {
                        return;
                    }
                }
                Statement::Drop(value) => self.drop_value(*value),
                Statement::Enter(module) | Statement::Leave(module) => {
                    self.tape.recorder.set_module(module.0);
                }
                Statement::Autocast { on } => {
                    self.tape.autocast.dtype = self.autocast_dtype().filter(|_| *on);
                }
                Statement::BeginLayer(layer) => {
                    let region = &graph.layers[layer.0 as usize];
                    if self.tape.setup.checkpointing.recomputes(region.region) {
                        let mut inputs = Vec::new();
                        for &id in &region.captured {
                            if let Some(tensor) = self.values[id.0 as usize].clone() {
                                let saved = self.tape.save(&tensor);
                                inputs.push(Input { value: id, saved, edge: tensor.edge });
                            }
                        }
                        if self.tape.recomputation_is_complete() {
                            return;
                        }
                        let frame = Rc::new(Frame::new(*layer, inputs));
                        self.tape.checkpoints.push(Checkpoint::Counting(frame));
                    }
                }
                Statement::EndLayer(layer) => {
                    let region = graph.layers[layer.0 as usize].region;
                    if self.tape.setup.checkpointing.recomputes(region) {
                        self.tape.checkpoints.pop();
                    }
                }
            }
        }
    }

    /// Runs a checkpointed layer again, in backward, and hands what it saves to the frame.
    pub fn recompute(&mut self, frame: &Rc<Frame>) {
        frame.set_recomputed();
        let layer = &self.graph.layers[frame.layer.0 as usize];
        let inputs: SmallVec<[Option<Tensor>; 4]> =
            frame.inputs.iter().map(|input| self.read_again(input)).collect();
        let outside: SmallVec<[Option<Tensor>; 4]> = frame
            .inputs
            .iter()
            .zip(inputs)
            .map(|(input, tensor)| {
                std::mem::replace(&mut self.values[input.value.0 as usize], tensor)
            })
            .collect();
        let module = self.tape.recorder.module();
        let nodes = self.tape.nodes.len();
        let around = self.tape.checkpoints.len();
        self.tape.checkpoints.push(Checkpoint::Filling(Rc::clone(frame), 0));
        self.tape.grad_enabled = true;
        self.tape.recorder.set_recomputing(true);
        self.tape.autocast.dtype = self.autocast_dtype();
        self.statements(layer.statements.clone());
        self.tape.autocast.end();
        self.tape.recorder.set_recomputing(false);
        self.tape.grad_enabled = false;
        self.tape.checkpoints.truncate(around);
        // The graph of the recomputation is never run: it goes at once, with Python's names.
        self.tape.nodes.truncate(nodes);
        self.tape.release_held(nodes);
        for id in layer.values.clone() {
            self.values[id as usize] = None;
        }
        for (input, outside) in frame.inputs.iter().zip(outside) {
            self.values[input.value.0 as usize] = outside;
        }
        self.tape.recorder.set_module(module);
    }

    /// Returns what a checkpointed layer read, for its second run.
    fn read_again(&mut self, input: &Input) -> Option<Tensor> {
        let tensor = self.unpacked(&input.saved)?;
        if tensor.edge == input.edge {
            return Some(tensor);
        }
        Some(Rc::new(TensorData { edge: input.edge, ..tensor.detached() }))
    }

    fn operator(&mut self, op: &Op, inputs: &[ValueId], outputs: &[ValueId]) {
        let mut args: SmallVec<[Tensor; 4]> =
            inputs.iter().filter_map(|id| self.values[id.0 as usize].clone()).collect();
        debug_assert_eq!(args.len(), inputs.len(), "{op:?} reads a value that is gone");
        self.tape.autocast_inputs(op, &mut args);
        let several: Option<SmallVec<[Tensor; 3]>> = match op {
            Op::Split { dim, parts } => {
                let dim = args[0].sizes.index(*dim);
                Some(self.tape.split(&args[0], dim, u64::from(*parts)).into_iter().collect())
            }
            Op::Unbind { dim, parts } => {
                let dim = args[0].sizes.index(*dim);
                Some(self.tape.unbind(&args[0], dim, u64::from(*parts)).into_iter().collect())
            }
            Op::TopK { k } => Some(self.tape.top_k(&args[0], *k).into_iter().collect()),
            Op::Sort => Some(self.tape.sort(&args[0]).into_iter().collect()),
            _ => None,
        };
        if let Some(made) = several {
            for (id, tensor) in outputs.iter().zip(made) {
                self.values[id.0 as usize] = Some(tensor);
            }
            return;
        }
        let made = match op {
            Op::Linear4bit | Op::Linear8bit => {
                // The old bias goes where a new one takes its place.
                args.truncate(2);
                self.quantized(op, inputs, &args)
            }
            _ => self.single(op, &args),
        };
        // PyTorch stops at what saves the last tensor, before its kernel runs.
        if let Some(count) = self.count.as_mut().filter(|_| !self.tape.recomputation_is_complete())
        {
            count.operator(op, &args, &made, self.tape.in_backward);
        }
        self.values[outputs[0].0 as usize] = Some(made);
    }

    /// Lets go of a value, and where nothing has read it of what is kept for its gradient.
    fn drop_value(&mut self, value: ValueId) {
        let dropped = self.values[value.0 as usize].take().and_then(|tensor| tensor.edge);
        let mut gone: SmallVec<[u32; 8]> = dropped.iter().map(|edge| edge.node).collect();
        while let Some(node) = gone.pop() {
            let is_of = |value: &Tensor| value.edge.is_some_and(|edge| edge.node == node);
            if !self.tape.is_read(node) && !self.values.iter().flatten().any(is_of) {
                gone.extend(self.tape.forget_unread(node));
            }
        }
    }

    /// Runs a quantized layer, which gives its bias the format that it is computed in, for good.
    fn quantized(&mut self, op: &Op, inputs: &[ValueId], args: &[Tensor]) -> Tensor {
        let (x, weight) = (&args[0], &args[1]);
        let computed = if *op == Op::Linear4bit { DType::Bf16 } else { x.dtype };
        let read = self.tape.to(x, computed);
        if let Some(id) = inputs.get(2)
            && let Some(bias) = &self.values[id.0 as usize]
            && bias.dtype != computed
        {
            let cast = self.tape.parameter(bias.sizes, computed);
            self.values[id.0 as usize] = Some(cast);
            self.weights_changed = true;
        }
        let bias = inputs.get(2).and_then(|id| self.values[id.0 as usize].clone());
        match op {
            Op::Linear4bit => self.tape.linear_4bit([x, &read], weight, bias.as_ref()),
            _ => self.tape.linear_8bit(x, weight),
        }
    }

    fn single(&mut self, op: &Op, args: &[Tensor]) -> Tensor {
        let asked = match op {
            Op::Fresh { dtype, .. } | Op::To { dtype } | Op::CumulativeSum { dtype } => *dtype,
            _ => Dtype::Model,
        };
        let dtype = self.dtype(asked);
        let tape = &mut self.tape;
        match op {
            Op::Fresh { sizes, .. } => {
                let numel = sizes.iter().product::<i64>() as u64;
                tape.empty(Dims::resolve(sizes, numel), dtype)
            }
            Op::FreshLike { sizes } => {
                let numel = sizes.iter().product::<i64>() as u64;
                tape.empty(Dims::resolve(sizes, numel), args[0].dtype)
            }
            Op::ClampHalf => tape.clamp_half(&args[0]),
            Op::AskFinite { at_once } => tape.ask_finite(&args[0], *at_once),
            Op::FiniteBound => tape.finite_bound(&args[0]),
            Op::ClampTo => tape.clamp_to(&args[0], &args[1]),
            Op::NumberLike => tape.scalar(args[0].dtype),
            Op::ZeroBias { sizes } => {
                let numel = sizes.iter().product::<i64>() as u64;
                tape.zero_bias(Dims::resolve(sizes, numel), args[0].dtype)
            }
            Op::Embedding => tape.embedding(&args[0], &args[1]),
            Op::Linear => tape.linear(&args[0], &args[1], args.get(2)),
            Op::Linear4bit | Op::Linear8bit => Rc::clone(&args[0]),
            Op::Clone => tape.clone_contiguous(&args[0]),
            Op::Addmm => tape.addmm(&args[0], &args[1], &args[2]),
            Op::Matmul => tape.matmul(&args[0], &args[1]),
            Op::Bmm => tape.bmm(&args[0], &args[1]),
            Op::Baddbmm => tape.baddbmm(&args[1], &args[2]),
            Op::Gather => tape.gather(&args[0], &args[1]),
            Op::Repeat { times } => tape.repeat(&args[0], *times),
            Op::Add => tape.add(&args[0], &args[1]),
            Op::Sub => tape.sub(&args[0], &args[1]),
            Op::Mul => tape.mul(&args[0], &args[1]),
            Op::Div => tape.div(&args[0], &args[1]),
            Op::Where => tape.where_(&args[0], &args[1], &args[2]),
            Op::AddNumber => tape.add_number(&args[0]),
            Op::MulNumber | Op::Neg => tape.scale(&args[0]),
            Op::Pow { .. } => tape.pow(&args[0]),
            Op::Rsqrt => tape.rsqrt(&args[0]),
            Op::Sqrt => tape.sqrt(&args[0]),
            Op::Tanh | Op::Relu => tape.activation_by_result(&args[0]),
            Op::Silu | Op::Gelu => tape.activation(&args[0]),
            Op::Mean { dim } => tape.mean_of(&args[0], args[0].sizes.index(*dim)),
            Op::MeanSpatial { keep } => tape.mean_spatial(&args[0], *keep),
            Op::AddInPlace => tape.add_in_place_of(&args[0], &args[1]),
            Op::Conv2d(how) => tape.conv2d(&args[0], &args[1], args.get(2), *how),
            Op::BatchNorm => tape.batch_norm(&args[0], &args[1], &args[2]),
            Op::MaxPool2d { kernel, stride, padding } => {
                tape.max_pool2d(&args[0], *kernel, *stride, *padding)
            }
            Op::Select { dim } => tape.select(&args[0], args[0].sizes.index(*dim)),
            Op::Permute { order } => {
                let order: SmallVec<[usize; 6]> = order.iter().map(|&dim| dim as usize).collect();
                tape.permute(&args[0], &order)
            }
            Op::Cat { dim } => {
                let inputs: SmallVec<[&Tensor; 4]> = args.iter().collect();
                tape.cat(&inputs, args[0].sizes.index(*dim))
            }
            Op::To { .. } => tape.to(&args[0], dtype),
            Op::ToLike => tape.to(&args[0], args[1].dtype),
            Op::View { sizes } => {
                let sizes = Dims::resolve(sizes, args[0].numel());
                tape.view(&args[0], sizes)
            }
            Op::Reshape { sizes } => {
                let sizes = Dims::resolve(sizes, args[0].numel());
                tape.reshape(&args[0], sizes)
            }
            Op::Transpose { dim0, dim1 } => {
                let sizes = args[0].sizes;
                tape.transpose(&args[0], sizes.index(*dim0), sizes.index(*dim1))
            }
            Op::Unsqueeze { dim } => tape.unsqueeze(&args[0], *dim as usize),
            Op::Squeeze { dim } => tape.squeeze(&args[0], args[0].sizes.index(*dim)),
            Op::Expand { sizes } => {
                let sizes = Dims::resolve(sizes, args[0].numel());
                tape.expand(&args[0], sizes)
            }
            Op::Contiguous => tape.contiguous(&args[0]),
            Op::Slice { dim, start, end } => {
                let dim = args[0].sizes.index(*dim);
                tape.slice(&args[0], dim, *start as u64, *end as u64)
            }
            Op::EverySecond { dim, first } => {
                tape.every_second(&args[0], args[0].sizes.index(*dim), *first)
            }
            Op::Pad { behind } => {
                let behind: SmallVec<[u64; 6]> = behind.iter().map(|&n| n as u64).collect();
                tape.pad(&args[0], &behind)
            }
            Op::RollTwo => tape.roll_two(&args[0]),
            Op::MaskedFillInPlace => tape.masked_fill_in_place(&args[0], &args[1]),
            Op::MaskedFill => tape.masked_fill(&args[0], &args[1]),
            Op::All { dim } => tape.all(&args[0], args[0].sizes.index(*dim)),
            Op::Split { .. } | Op::Unbind { .. } | Op::TopK { .. } | Op::Sort => {
                Rc::clone(&args[0])
            }
            Op::SumDim { dim, keep } => tape.sum_dim(&args[0], args[0].sizes.index(*dim), *keep),
            Op::DivInPlace => tape.div_in_place(&args[0], &args[1]),
            Op::IndexRows { dim } => tape.index_rows(&args[0], &args[1], args[0].sizes.index(*dim)),
            Op::IndexPairs => tape.index_pairs(&args[0], &args[1], &args[2]),
            Op::IndexAdd => tape.index_add(&args[0], &args[1], &args[2]),
            Op::GroupedMm => tape.grouped_mm(&args[0], &args[1], &args[2]),
            Op::Softmax { in_f32 } => {
                // Autocast asks for float32 where the code does not say.
                let in_f32 = *in_f32 || tape.autocast.dtype.is_some();
                tape.softmax(&args[0], in_f32)
            }
            Op::CrossEntropy => tape.cross_entropy(&args[0], &args[1]),
            Op::MseLoss => tape.mse_loss(&args[0], &args[1]),
            Op::BceLoss => tape.bce_loss(&args[0], &args[1]),
            Op::FusedCrossEntropy => tape.fused_cross_entropy(&args[0], &args[1], &args[2]),
            Op::Dropout { probability } => tape.dropout(&args[0], *probability),
            Op::LayerNorm => tape.layer_norm(&args[0], &args[1], args.get(2)),
            Op::Sdpa { dropout, causal, grouped } => {
                let call = SdpaCall { dropout: *dropout, causal: *causal, grouped: *grouped };
                tape.sdpa(&args[0], &args[1], &args[2], args.get(3), &call)
            }
            Op::ToAutocast => match tape.autocast.dtype {
                Some(dtype) if args[0].dtype == DType::F32 => tape.to(&args[0], dtype),
                _ => Rc::clone(&args[0]),
            },
            Op::FlashAttn { dropout } => tape.flash_attn([&args[0], &args[1], &args[2]], *dropout),
            Op::CountTrue => tape.count_true(&args[0]),
            Op::CumulativeSum { .. } => tape.cumulative_sum(&args[0], dtype),
            Op::AllTrue => tape.all_true(&args[0]),
            Op::DtypeOf => tape.empty(Dims::new(&[0]), args[0].dtype),
            Op::RequireGrad => tape.require_grad(&args[0]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::config_json;
    use crate::model::options::GraphOptions;
    use crate::profile::model::ModelProfile;
    use crate::step::setup::{
        Allocator, Attention, AttentionMask, Checkpointing, GpuArch, Loss, Optimizer, Version,
        ZeroGrad,
    };
    use crate::units::{AccumulationSteps, Bytes, MicroBatch};

    fn setup(
        accumulation: u64,
        zero_grad: ZeroGrad,
        checkpointing: Checkpointing,
        torch: Version,
    ) -> Setup {
        Setup {
            micro_batch: MicroBatch::new(2).unwrap(),
            accumulation: AccumulationSteps::new(accumulation).unwrap(),
            seq_len: 64,
            label_len: None,
            precision: Precision::Bf16,
            optimizer: Optimizer::AdamW,
            clip: None,
            zero_grad,
            checkpointing,
            attention: Attention::Sdpa,
            attention_mask: AttentionMask::Ones,
            loss: Loss::Standard,
            torch,
            transformers: Version::new(5, 23),
            allocator: Allocator::Default,
            gpu: GpuArch::A100,
            device_total: Bytes::gib(80),
        }
    }

    fn graph(model: &str, setup: &Setup) -> Graph {
        let profile = ModelProfile::built_in(model).unwrap();
        let config = config_json::from_map(&profile.config).unwrap().config;
        let options = GraphOptions {
            batch: setup.micro_batch.get(),
            seq_len: setup.seq_len,
            label_len: setup.seq_len,
            attention: setup.attention,
            attention_mask: setup.attention_mask,
            loss: setup.loss,
            transformers: setup.transformers,
            torch: setup.torch,
        };
        crate::model::build(&config, &options)
    }

    /// Compares what is recorded again with what is run, and checks that it was recorded again.
    fn same(model: &str, setup: &Setup) {
        let graph = graph(model, setup);
        let alike = Alike::of(&graph, setup.checkpointing);
        let recorded = match &alike {
            Some(alike) => run_with(&graph, setup, Repeat::Recorded(Some(alike))),
            None => None,
        };
        let recorded =
            recorded.unwrap_or_else(|| panic!("{model}: layers are not alike, {setup:?}"));
        for other in [Repeat::Recorded(None), Repeat::Run] {
            let run = run_with(&graph, setup, other).unwrap();
            for (at, pair) in recorded.events.iter().zip(&run.events).enumerate() {
                assert!(pair.0 == pair.1, "{model} {setup:?}: event {at} is {pair:?}");
            }
            assert!(recorded.events.len() == run.events.len(), "{model} {setup:?}");
            for (at, pair) in recorded.blocks.iter().zip(&run.blocks).enumerate() {
                assert!(pair.0 == pair.1, "{model} {setup:?}: block {at} is {pair:?}");
            }
            assert!(recorded.blocks.len() == run.blocks.len(), "{model} {setup:?}");
            assert!(recorded.phases == run.phases, "{model} {setup:?}");
        }
    }

    #[test]
    fn a_step_of_many_images_is_as_long_as_one_of_few() {
        let events = |images: u64| {
            let micro_batch = MicroBatch::new(images).unwrap();
            let torch = Version::new(2, 15);
            let one = setup(1, ZeroGrad::None, Checkpointing::None, torch);
            let setup = Setup { micro_batch, attention: Attention::Eager, ..one };
            run(&graph("resnet-18", &setup), &setup).events.len()
        };
        // Sums over more of them take scratch here and there.
        let (few, many) = (events(100), events(5000));
        assert!(many < few + few / 10, "{few} {many}");
    }

    #[test]
    fn a_repeated_micro_step_is_what_it_would_have_been() {
        for model in ["gpt2", "qwen2.5-0.5b"] {
            for torch in [Version::new(2, 8), Version::new(2, 15)] {
                // From the second step on, gradients that are zeroed are there before any backward.
                for (accumulation, zero_grad) in [
                    (1, ZeroGrad::None),
                    (2, ZeroGrad::None),
                    (4, ZeroGrad::None),
                    (1, ZeroGrad::Zero),
                    (3, ZeroGrad::Zero),
                ] {
                    for checkpointing in [Checkpointing::None, Checkpointing::Full] {
                        let setup = setup(accumulation, zero_grad, checkpointing, torch);
                        same(model, &setup);
                    }
                }
            }
        }
    }

    #[test]
    fn layers_that_are_not_run_are_what_they_would_have_been() {
        use Checkpointing::{Full, None};
        use Precision::{AmpBf16, AmpFp16, Fp32};
        for (model, precision, attention, checkpointing) in [
            ("gpt2", AmpFp16, Attention::Eager, Full),
            ("opt-125m", AmpBf16, Attention::Sdpa, Checkpointing::Attention),
            ("llama-3.2-1b", AmpFp16, Attention::Sdpa, Full),
            ("pythia-160m", AmpBf16, Attention::Eager, None),
            ("qwen3-0.6b", Fp32, Attention::Sdpa, None),
            ("bert-base-cased", AmpFp16, Attention::Eager, None),
            ("vit-base-patch16-224", AmpBf16, Attention::Sdpa, Full),
            ("whisper-small", AmpFp16, Attention::Sdpa, None),
            // Groups of layers: two, three with some left over, two by their windows.
            ("llama-3.2-3b", AmpBf16, Attention::Sdpa, Checkpointing::Every(2)),
            ("qwen3-0.6b", AmpFp16, Attention::Eager, Checkpointing::Every(3)),
            ("gemma-2-2b", AmpBf16, Attention::Eager, Full),
        ] {
            for torch in [Version::new(2, 8), Version::new(2, 15)] {
                let plain = setup(2, ZeroGrad::None, checkpointing, torch);
                same(model, &Setup { precision, attention, ..plain });
            }
        }
    }
}
