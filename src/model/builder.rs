//! Writes a [`Graph`] the way the model's Python code runs: a [`Value`] that goes out of scope is a
//! name that Python lets go of.

use std::cell::{Cell, RefCell};

use smallvec::SmallVec;

use crate::model::graph::{
    Dtype, Graph, Layer, LayerId, ModuleId, Op, Region, Sizes, Statement, ValueId, Weight,
};

/// Collects statements; shared by all values and scopes it hands out.
#[derive(Debug, Default)]
pub struct Builder {
    graph: RefCell<Graph>,
    module: Cell<u32>,
    /// Layers so far.
    layers: Cell<u64>,
    /// Regions that are open: which, and the first value born in it.
    open: RefCell<SmallVec<[(u32, u32); 2]>>,
}

/// A value of the graph under construction. Dropping it says that Python's name for it is gone.
#[derive(Debug)]
pub struct Value<'b> {
    id: ValueId,
    builder: &'b Builder,
    owned: bool,
}

impl Value<'_> {
    /// Returns the value's id.
    pub fn id(&self) -> ValueId {
        self.id
    }

    /// Ends the graph with this value: its name stays.
    pub fn keep(mut self) -> ValueId {
        self.owned = false;
        self.id
    }
}

impl Drop for Value<'_> {
    fn drop(&mut self) {
        if self.owned {
            self.builder.graph.borrow_mut().statements.push(Statement::Drop(self.id));
        }
    }
}

/// A module's forward, from its making to its drop.
#[derive(Debug)]
pub struct Scope<'b> {
    builder: &'b Builder,
    outer: u32,
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        self.builder.module.set(self.outer);
        self.builder.graph.borrow_mut().statements.push(Statement::Leave(ModuleId(self.outer)));
    }
}

/// A region without autocast, from its making to its drop.
#[derive(Debug)]
pub struct AutocastOff<'b> {
    builder: &'b Builder,
}

impl Drop for AutocastOff<'_> {
    fn drop(&mut self) {
        self.builder.graph.borrow_mut().statements.push(Statement::Autocast { on: true });
    }
}

/// Statements that most models stay below: moving a graph that grows costs more than its making.
const ROOM: usize = 8192;

impl Builder {
    /// Starts an empty graph.
    pub fn new() -> Builder {
        let builder = Builder::default();
        let mut graph = builder.graph.borrow_mut();
        graph.modules.push(String::new());
        graph.statements.reserve(ROOM);
        drop(graph);
        builder
    }

    /// Ends the graph with its loss.
    pub fn finish(self, loss: ValueId) -> Graph {
        let mut graph = self.graph.into_inner();
        graph.loss = Some(loss);
        graph
    }

    /// States the logits' size, for reports.
    pub fn mark_logits(&self, rows: u64, classes: u64) {
        self.graph.borrow_mut().logits = Some((rows, classes));
    }

    /// Enters a module under the current one.
    pub fn enter(&self, name: &str) -> Scope<'_> {
        let outer = self.module.get();
        let mut graph = self.graph.borrow_mut();
        let id = graph.modules.len() as u32;
        let parent = graph.modules[outer as usize].as_str();
        let mut path = String::with_capacity(parent.len() + 1 + name.len());
        if !parent.is_empty() {
            path.push_str(parent);
            path.push('.');
        }
        path.push_str(name);
        graph.modules.push(path);
        graph.statements.push(Statement::Enter(ModuleId(id)));
        self.module.set(id);
        Scope { builder: self, outer }
    }

    /// Switches autocast off until the result is dropped (`torch.autocast(enabled=False)`).
    pub fn without_autocast(&self) -> AutocastOff<'_> {
        self.graph.borrow_mut().statements.push(Statement::Autocast { on: false });
        AutocastOff { builder: self }
    }

    fn new_id(&self) -> ValueId {
        let mut graph = self.graph.borrow_mut();
        let id = ValueId(graph.value_count);
        graph.value_count += 1;
        id
    }

    fn load(&self, module: &str, sizes: &[u64], dtype: Dtype, trained: bool) -> Value<'_> {
        let value = self.new_id();
        let mut graph = self.graph.borrow_mut();
        if graph.modules.last().map(String::as_str) != Some(module) {
            graph.modules.push(module.to_owned());
        }
        let module = ModuleId(graph.modules.len() as u32 - 1);
        let sizes = sizes.iter().map(|&n| n as i64).collect();
        if trained {
            let index = graph.weights.len() as u32;
            graph.trained.push(index);
        }
        let before = graph.weights.last().filter(|last| last.module == module && last.trained);
        let name = match (trained, before) {
            (false, _) => "",
            (true, None) => "weight",
            (true, Some(_)) => "bias",
        };
        graph.weights.push(Weight { value, module, sizes, dtype, name, trained });
        Value { id: value, builder: self, owned: false }
    }

    /// Adds a trained weight in the model's dtype, of the module named, which calls the first of them
    /// its weight and the next its bias.
    pub fn parameter(&self, module: &str, sizes: &[u64]) -> Value<'_> {
        self.load(module, sizes, Dtype::Model, true)
    }

    /// Adds a trained weight that its module calls something else.
    pub fn named_parameter(&self, module: &str, name: &'static str, sizes: &[u64]) -> Value<'_> {
        let value = self.parameter(module, sizes);
        if let Some(weight) = self.graph.borrow_mut().weights.last_mut() {
            weight.name = name;
        }
        value
    }

    /// Adds a trained weight that a module holds beside its children, who are loaded: it is loaded
    /// after them, but comes before their first one (`first`) in the optimizer's order.
    pub fn own_parameter(
        &self,
        module: &str,
        name: &'static str,
        sizes: &[u64],
        first: &Value<'_>,
    ) -> Value<'_> {
        let own = self.named_parameter(module, name, sizes);
        let mut graph = self.graph.borrow_mut();
        let is_first = |&index: &u32| graph.weights[index as usize].value == first.id;
        if let Some(place) = graph.trained.iter().position(is_first)
            && let Some(index) = graph.trained.pop()
        {
            graph.trained.insert(place, index);
        }
        own
    }

    /// Has weights loaded in float32 where the model is loaded in float16.
    pub fn keep_from_f16<'v>(&self, weights: impl IntoIterator<Item = &'v Value<'v>>) {
        let mut graph = self.graph.borrow_mut();
        for weight in weights {
            graph.weights[weight.id.0 as usize].dtype = Dtype::NotF16;
        }
    }

    /// Adds a buffer of the module named.
    pub fn buffer(&self, module: &str, sizes: &[u64], dtype: Dtype) -> Value<'_> {
        self.load(module, sizes, dtype, false)
    }

    /// Adds a tensor of the batch.
    pub fn batch(&self, sizes: &[u64], dtype: Dtype) -> Value<'_> {
        let id = self.new_id();
        let sizes: Sizes = sizes.iter().map(|&n| n as i64).collect();
        self.graph.borrow_mut().batch.push((id, sizes, dtype));
        Value { id, builder: self, owned: false }
    }

    /// Adds the batch's images, in the model's dtype.
    pub fn images(&self, sizes: &[u64]) -> Value<'_> {
        let images = self.batch(sizes, Dtype::Model);
        self.graph.borrow_mut().images = Some(images.id);
        images
    }

    /// Runs `forward` as a layer that checkpointing may recompute.
    ///
    /// `arguments` are what the call passes along unread: checkpointing holds them too.
    pub fn layer<'b>(
        &'b self,
        arguments: &[&Value<'b>],
        forward: impl FnOnce() -> Value<'b>,
    ) -> Value<'b> {
        let number = self.layers.get();
        self.layers.set(number + 1);
        self.region(Region::Layer(number), arguments, forward)
    }

    /// Runs `forward` as a stage of layers, which checkpointing may recompute as a whole.
    pub fn stage<T>(&self, forward: impl FnOnce() -> T) -> T {
        self.region(Region::Stage, &[], forward)
    }

    /// Runs `forward` as the attention module of a layer, which checkpointing may recompute alone.
    pub fn attention<'b, T>(
        &'b self,
        module: &str,
        arguments: &[&Value<'b>],
        forward: impl FnOnce() -> T,
    ) -> T {
        let _m = self.enter(module);
        self.region(Region::Attention, arguments, forward)
    }

    fn region<'b, T>(
        &'b self,
        region: Region,
        arguments: &[&Value<'b>],
        forward: impl FnOnce() -> T,
    ) -> T {
        let (id, start, first) = {
            let mut graph = self.graph.borrow_mut();
            let id = LayerId(graph.layers.len() as u32);
            graph.layers.push(Layer {
                region,
                statements: 0..0,
                values: 0..0,
                captured: SmallVec::new(),
            });
            graph.statements.push(Statement::BeginLayer(id));
            (id, graph.statements.len(), graph.value_count)
        };
        self.open.borrow_mut().push((id.0, first));
        for argument in arguments {
            self.capture(argument.id);
        }
        let out = forward();
        self.open.borrow_mut().pop();
        let mut graph = self.graph.borrow_mut();
        let end = graph.statements.len();
        graph.statements.push(Statement::EndLayer(id));
        let values = first..graph.value_count;
        let layer = &mut graph.layers[id.0 as usize];
        layer.statements = start..end;
        layer.values = values;
        out
    }

    /// Notes a value from outside for every region that is open.
    fn capture(&self, id: ValueId) {
        let open = self.open.borrow();
        if open.is_empty() {
            return;
        }
        let mut graph = self.graph.borrow_mut();
        if (id.0 as usize) < graph.weights.len() {
            return;
        }
        for &(layer, first) in open.iter() {
            let captured = &mut graph.layers[layer as usize].captured;
            if id.0 < first && !captured.contains(&id) {
                captured.push(id);
            }
        }
    }

    /// Runs an operator with several results.
    pub fn run_many<const N: usize>(&self, op: Op, inputs: &[&Value<'_>]) -> [Value<'_>; N] {
        for input in inputs {
            self.capture(input.id);
        }
        let values =
            std::array::from_fn(|_| Value { id: self.new_id(), builder: self, owned: true });
        self.graph.borrow_mut().statements.push(Statement::Run {
            op,
            inputs: inputs.iter().map(|v| v.id).collect(),
            outputs: values.iter().map(|v| v.id).collect(),
        });
        values
    }

    /// Runs an operator with one result.
    pub fn run(&self, op: Op, inputs: &[&Value<'_>]) -> Value<'_> {
        let [value] = self.run_many(op, inputs);
        value
    }

    /// New data that needs no gradient.
    pub fn fresh(&self, sizes: &[u64], dtype: Dtype) -> Value<'_> {
        let sizes = sizes.iter().map(|&n| n as i64).collect();
        self.run(Op::Fresh { sizes, dtype }, &[])
    }

    /// New data that is gone at once.
    pub fn scratch(&self, sizes: &[u64], dtype: Dtype) {
        drop(self.fresh(sizes, dtype));
    }

    /// `x.view(sizes)`
    pub fn view(&self, x: &Value<'_>, sizes: &[i64]) -> Value<'_> {
        self.run(Op::View { sizes: sizes.into() }, &[x])
    }

    /// `x.reshape(sizes)`
    pub fn reshape(&self, x: &Value<'_>, sizes: &[i64]) -> Value<'_> {
        self.run(Op::Reshape { sizes: sizes.into() }, &[x])
    }

    /// `x.transpose(dim0, dim1)`
    pub fn transpose(&self, x: &Value<'_>, dim0: i32, dim1: i32) -> Value<'_> {
        self.run(Op::Transpose { dim0, dim1 }, &[x])
    }

    /// `a + b`
    pub fn add(&self, a: &Value<'_>, b: &Value<'_>) -> Value<'_> {
        self.run(Op::Add, &[a, b])
    }

    /// `a * b`
    pub fn mul(&self, a: &Value<'_>, b: &Value<'_>) -> Value<'_> {
        self.run(Op::Mul, &[a, b])
    }

    /// `x * number`
    pub fn mul_number(&self, x: &Value<'_>) -> Value<'_> {
        self.run(Op::MulNumber, &[x])
    }

    /// `x + number`
    pub fn add_number(&self, x: &Value<'_>) -> Value<'_> {
        self.run(Op::AddNumber, &[x])
    }

    /// `x.contiguous()`
    pub fn contiguous(&self, x: &Value<'_>) -> Value<'_> {
        self.run(Op::Contiguous, &[x])
    }

    /// `dropout(x, probability)` in training
    pub fn dropout(&self, x: &Value<'_>, probability: f64) -> Value<'_> {
        self.run(Op::Dropout { probability }, &[x])
    }
}
