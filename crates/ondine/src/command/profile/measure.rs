//! What is measured, and its sums.

use std::sync::Arc;

use ondine_runtime::{Bindings, Function, Graph, Node, Precision, State, Tier, profile::Sample};
use serde_json::{Value, json};

use super::options::Profile;
use crate::{
    command::{
        bench::machine::Machine,
        callee::{Loaded, borrowed},
    },
    interrupt,
};

/// Everything that is known after the last call.
pub(super) struct Measured {
    pub(super) model: String,
    pub(super) function: String,
    pub(super) precision: Precision,
    pub(super) threads: usize,
    tier: Tier,
    machine: Machine,
    arguments: Vec<String>,
    random: bool,
    sizes: Bindings,
    /// Seconds of each call, in order.
    pub(super) calls: Vec<f64>,
    /// What a call runs, in order.
    pub(super) nodes: Vec<NodeTime>,
    weight_bytes: usize,
    arena_bytes: usize,
    parameters: u64,
}

/// One operator of every call.
pub(super) struct NodeTime {
    /// Its position in the rewritten graph.
    index: usize,
    /// The names of the program's nodes that it does the work of, else its position.
    pub(super) name: String,
    pub(super) op: Arc<str>,
    /// What the program calls it, such as `aten.linear.default`.
    imported: Vec<String>,
    pub(super) module: String,
    pub(super) line: Option<Line>,
    /// The calls that led to it, outermost first.
    stack: Vec<Line>,
    pub(super) shape: Vec<usize>,
    dtype: &'static str,
    /// When it began and how long it took, in seconds, in each call.
    pub(super) times: Vec<(f64, f64)>,
    pub(super) sum: Sum,
    /// Bytes of workspace in use while it runs.
    pub(super) live: usize,
}

/// A line of Python.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) function: String,
    pub(super) text: String,
    /// File and line for people.
    pub(super) place: String,
}

impl Line {
    fn of(frame: &ondine_runtime::Frame) -> Self {
        let text = |text: &str| text.to_owned();
        let (file, function) = (text(&frame.file), text(&frame.function));
        Self { file, line: frame.line, function, text: text(&frame.text), place: frame.place() }
    }

    fn to_json(&self) -> Value {
        json!({
            "file": self.file, "line": self.line, "function": self.function, "text": self.text, "place": self.place,
        })
    }
}

/// What operators have in common: the time of one call, and what is done in it.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum {
    pub(super) count: usize,
    pub(super) seconds: f64,
    pub(super) flops: f64,
    pub(super) bytes: f64,
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.seconds += other.seconds;
        self.flops += other.flops;
        self.bytes += other.bytes;
    }
}

/// A part of the tree of modules.
pub(super) struct Module {
    /// The last part of the path.
    pub(super) name: String,
    path: String,
    /// With everything below.
    pub(super) all: Sum,
    /// What belongs to no module below.
    own: Sum,
    pub(super) children: Vec<Module>,
}

impl Profile {
    /// Calls the function and measures it.
    pub(super) fn measure(&self) -> anyhow::Result<Measured> {
        let device = self.running.device(interrupt::wish())?;
        let opened = self.callee.open(&device)?;
        let name = opened.1.clone();
        let inputs = |graph: &Graph| self.inputs.given(graph, &self.size);
        let Loaded { function, arguments, precision, weight_bytes, .. } =
            self.callee.load(opened, &self.running, inputs, &device)?;
        let machine = Machine::measure(device.processor()?);
        let arguments = borrowed(&arguments);
        let mut state = State::profiled();
        function.run(&arguments, &mut state)?;
        state.take_profile();
        for _ in 0..self.repeat {
            function.run(&arguments, &mut state)?;
        }
        let profile = state.take_profile().unwrap_or_default();
        let sizes = function.bindings(&arguments)?;
        let plan = function.plan(&sizes)?;
        let mut nodes: Vec<NodeTime> = Vec::new();
        for sample in &profile.samples {
            if sample.call == 0 {
                let live = plan.live_bytes().get(nodes.len()).copied().unwrap_or_default();
                nodes.push(NodeTime::new(&function, sample, plan.shape(sample.value), live));
            }
        }
        let per_call = nodes.len().max(1);
        for (position, sample) in profile.samples.iter().enumerate() {
            nodes[position % per_call].times.push((sample.start.as_secs_f64(), sample.time.as_secs_f64()));
        }
        nodes.iter_mut().for_each(|node| node.sum.seconds = median(node.times.iter().map(|(_, time)| *time)));
        Ok(Measured {
            model: self.callee.model.clone(),
            function: name.to_string(),
            precision,
            threads: device.processor()?.threads(),
            tier: device.processor()?.tier(),
            machine,
            arguments: arguments.iter().map(|(name, x)| format!("{name}: {} {:?}", x.dtype(), x.shape())).collect(),
            random: self.inputs.is_empty(),
            sizes,
            calls: profile.calls.iter().map(|call| call.as_secs_f64()).collect(),
            nodes,
            weight_bytes,
            arena_bytes: plan.arena_bytes(),
            parameters: function
                .graph()
                .weights()
                .iter()
                .map(|weight| weight.shape.iter().product::<usize>() as u64)
                .sum(),
        })
    }
}

impl NodeTime {
    fn new(function: &Function, sample: &Sample, shape: &[usize], live: usize) -> Self {
        let node: &Node = function.graph().node(sample.value);
        let origin = node.origin.as_ref();
        let index = sample.value.index();
        let parts = origin.iter().flat_map(|origin| std::iter::once(*origin).chain(&origin.fused));
        Self {
            index,
            name: origin.map_or_else(|| format!("%{index}"), |origin| origin.names()),
            op: sample.op.clone(),
            imported: parts.map(|origin| origin.op.to_string()).collect(),
            module: node.scope.to_string(),
            line: origin.and_then(|origin| origin.line()).map(Line::of),
            stack: origin.iter().flat_map(|origin| &origin.stack).map(Line::of).collect(),
            shape: shape.to_vec(),
            dtype: node.signature.dtype.name(),
            times: Vec::new(),
            sum: Sum { count: 1, seconds: 0.0, flops: sample.flops as f64, bytes: sample.bytes as f64 },
            live,
        }
    }
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl Measured {
    /// Seconds of a typical call.
    pub(super) fn seconds(&self) -> f64 {
        median(self.calls.iter().copied())
    }

    /// All operators of a call.
    pub(super) fn total(&self) -> Sum {
        let mut total = Sum::default();
        self.nodes.iter().for_each(|node| total.add(&node.sum));
        total
    }

    /// What speeds are compared with: operations and bytes per second.
    pub(super) fn limits(&self) -> (f64, f64) {
        (self.machine.peak(self.precision), self.machine.bandwidth)
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Sums by what `key` says, the longest time first.
    pub(super) fn by<K: PartialEq>(&self, key: impl Fn(&NodeTime) -> K) -> Vec<(K, Sum)> {
        let mut sums: Vec<(K, Sum)> = Vec::new();
        for node in &self.nodes {
            let key = key(node);
            match sums.iter_mut().find(|(known, _)| *known == key) {
                Some((_, sum)) => sum.add(&node.sum),
                None => sums.push((key, node.sum)),
            }
        }
        sums.sort_by(|(_, a), (_, b)| b.seconds.total_cmp(&a.seconds));
        sums
    }

    /// The tree of modules; its root is the whole function.
    pub(super) fn modules(&self) -> Module {
        let mut root = Module::new(&self.function, "");
        for node in &self.nodes {
            let mut module = &mut root;
            module.all.add(&node.sum);
            for name in node.module.split('.').filter(|name| !name.is_empty()) {
                module = module.child(name);
                module.all.add(&node.sum);
            }
            module.own.add(&node.sum);
        }
        root
    }

    pub(super) fn to_json(&self) -> Value {
        let total = self.total();
        let sum = |sum: &Sum| self.sum(sum);
        let operators = self.by(|node| node.op.clone()).into_iter().map(|(op, s)| merged(json!({"op": &*op}), sum(&s)));
        let lines = self.by(|node| node.line.clone()).into_iter().filter_map(|(line, s)| {
            let line = line?;
            let nodes = self.nodes.iter().enumerate().filter(|(_, node)| node.line.as_ref() == Some(&line));
            let nodes: Vec<usize> = nodes.map(|(position, _)| position).collect();
            Some(merged(merged(line.to_json(), sum(&s)), json!({ "nodes": nodes })))
        });
        let nodes = self.nodes.iter().map(|node| merged(node.to_json(), sum(&node.sum)));
        json!({
            "model": self.model,
            "function": self.function,
            "parameters": self.parameters,
            "precision": self.precision.to_string(),
            "threads": self.threads,
            "tier": self.tier.to_string(),
            "inputs": self.arguments,
            "random_inputs": self.random,
            "sizes": self.sizes.iter().map(|(name, size)| (name.to_string(), json!(size))).collect::<serde_json::Map<_, _>>(),
            "calls_s": self.calls,
            "median_s": self.seconds(),
            "outside_operators_s": self.seconds() - total.seconds,
            "gflop": total.flops / 1e9,
            "gflops": total.flops / 1e9 / self.seconds(),
            "fraction_of_peak": total.flops / self.seconds() / self.limits().0,
            "memory": {"weight_bytes": self.weight_bytes, "workspace_bytes": self.arena_bytes},
            "machine": self.machine.to_json(),
            "peak_flops": self.limits().0,
            "bandwidth": self.limits().1,
            "operators": operators.collect::<Vec<_>>(),
            "modules": self.module(&self.modules()),
            "lines": lines.collect::<Vec<_>>(),
            "nodes": nodes.collect::<Vec<_>>(),
        })
    }

    fn sum(&self, sum: &Sum) -> Value {
        let (peak, bandwidth) = self.limits();
        let per_second = |amount: f64| (amount > 0.0 && sum.seconds > 0.0).then(|| amount / sum.seconds);
        json!({
            "count": sum.count,
            "seconds": sum.seconds,
            "share": sum.seconds / self.total().seconds,
            "gflop": sum.flops / 1e9,
            "bytes": sum.bytes,
            "gflops": per_second(sum.flops).map(|speed| speed / 1e9),
            "fraction_of_peak": per_second(sum.flops).map(|speed| speed / peak),
            "gb_s": per_second(sum.bytes).map(|speed| speed / 1e9),
            "fraction_of_bandwidth": per_second(sum.bytes).map(|speed| speed / bandwidth),
        })
    }

    fn module(&self, module: &Module) -> Value {
        let children: Vec<Value> = module.children.iter().map(|child| self.module(child)).collect();
        let facts = json!({
            "name": module.name, "path": module.path, "own_seconds": module.own.seconds, "children": children,
        });
        merged(facts, self.sum(&module.all))
    }
}

impl NodeTime {
    fn to_json(&self) -> Value {
        json!({
            "index": self.index,
            "name": self.name,
            "op": &*self.op,
            "imported": self.imported,
            "module": self.module,
            "line": self.line.as_ref().map(Line::to_json),
            "stack": self.stack.iter().map(Line::to_json).collect::<Vec<_>>(),
            "shape": self.shape,
            "dtype": self.dtype,
            "live_bytes": self.live,
            "start_s": median(self.times.iter().map(|(start, _)| *start)),
        })
    }
}

impl Module {
    fn new(name: &str, path: &str) -> Self {
        let (name, path) = (name.to_owned(), path.to_owned());
        Self { name, path, all: Sum::default(), own: Sum::default(), children: Vec::new() }
    }

    /// The child of this name; a new one comes last, so that they are in the order in which they first ran.
    fn child(&mut self, name: &str) -> &mut Self {
        let position = self.children.iter().position(|child| child.name == name).unwrap_or_else(|| {
            let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
            self.children.push(Self::new(name, &path));
            self.children.len() - 1
        });
        &mut self.children[position]
    }
}

/// The members of both objects.
fn merged(mut first: Value, second: Value) -> Value {
    if let (Value::Object(first), Value::Object(second)) = (&mut first, second) {
        first.extend(second);
    }
    first
}
