//! The search for the operator that makes the first NaN or infinity.

use ondine_runtime::{Asset, DType, Moment, NDArray, Node, Op, Result, Tap, Value, weight_numbers};
use serde_json::{Value as Json, json};

use super::{
    difference::place,
    origin::{describe_place, place_json},
};

/// What values hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wild {
    nan: bool,
    infinite: bool,
}

impl Wild {
    fn of(numbers: &[f32]) -> Self {
        let mut wild = Self::default();
        for x in numbers {
            wild.nan |= x.is_nan();
            wild.infinite |= x.is_infinite();
        }
        wild
    }

    fn or(self, other: Self) -> Self {
        Self { nan: self.nan || other.nan, infinite: self.infinite || other.infinite }
    }
}

/// An operator that yields what none of its inputs holds.
pub(super) struct Finding {
    /// `NaN` or `infinity`.
    what: &'static str,
    pub(super) node: Node,
    /// The value that it yields.
    pub(super) value: Value,
    /// Elements of the result that are so, and where the first one is.
    count: usize,
    at: Vec<usize>,
    shape: Vec<usize>,
    /// The largest finite magnitude of each input.
    inputs: Vec<f32>,
    /// The weight that holds it, which then is the cause.
    pub(super) weight: Option<String>,
}

/// Looks at every value of a call.
pub(super) struct Hunt<'a> {
    asset: &'a Asset,
    /// What each value of the graph holds, in its order.
    known: Vec<Wild>,
    nan: Option<Finding>,
    infinity: Option<Finding>,
}

impl<'a> Hunt<'a> {
    pub(super) fn new(asset: &'a Asset) -> Self {
        Self { asset, known: Vec::new(), nan: None, infinity: None }
    }

    /// The first operator that makes a NaN and the first that makes an infinity, the earlier one first.
    pub(super) fn findings(self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.nan.into_iter().chain(self.infinity).collect();
        findings.sort_by_key(|finding| finding.value);
        findings
    }

    /// What arguments, states and constants hold.
    fn begin(&mut self, moment: &Moment<'_>) -> Result<()> {
        let graph = moment.graph();
        self.known = vec![Wild::default(); graph.nodes().len()];
        for (value, node) in graph.values() {
            if matches!(node.op, Op::Input | Op::State(_) | Op::Const(_)) && is_float(node.signature.dtype) {
                self.known[value.index()] = Wild::of(&moment.array(value)?.to_f32());
            }
        }
        Ok(())
    }

    fn inputs(&self, moment: &Moment<'_>, node: &Node) -> Wild {
        let inputs = node.inputs.iter().map(|&input| self.known[root(moment, input).index()]);
        inputs.fold(Wild::default(), Wild::or)
    }

    /// The weight among the inputs that holds what was found.
    fn weight(&self, moment: &Moment<'_>, node: &Node, bad: impl Fn(f32) -> bool) -> Result<Option<String>> {
        for &input in &node.inputs {
            if let Op::Weight(id) = moment.graph().node(root(moment, input)).op {
                let path = &moment.graph().weight_info(id).path;
                if weight_numbers(self.asset, path)?.iter().any(|&x| bad(x)) {
                    return Ok(Some(path.to_string()));
                }
            }
        }
        Ok(None)
    }

    fn finding(&self, moment: &Moment<'_>, value: Value, result: &NDArray, what: &'static str) -> Result<Finding> {
        let bad = |x: f32| if what == "NaN" { x.is_nan() } else { x.is_infinite() };
        let node = moment.graph().node(value);
        let numbers = result.to_f32();
        let first = numbers.iter().position(|&x| bad(x)).unwrap_or_default();
        let mut inputs = Vec::new();
        for &input in &node.inputs {
            let array = moment.array(input).map_or_else(|_| Vec::new(), |array| array.to_f32());
            inputs.push(array.into_iter().filter(|x| x.is_finite()).fold(0.0, |most: f32, x| most.max(x.abs())));
        }
        Ok(Finding {
            what,
            node: node.clone(),
            value,
            count: numbers.iter().filter(|&&x| bad(x)).count(),
            at: place(first, result.shape()),
            shape: result.shape().to_vec(),
            inputs,
            weight: self.weight(moment, node, bad)?,
        })
    }
}

impl Tap for Hunt<'_> {
    fn look(&mut self, moment: &Moment<'_>) -> Result<()> {
        let Some(value) = moment.value() else { return self.begin(moment) };
        let node = moment.graph().node(value);
        if !is_float(node.signature.dtype) {
            // Rows of 8 bits, which a device knows alone, hide what was rounded into them: it goes on as what it came
            // from.
            if let Op::Native(_) = node.op {
                self.known[value.index()] = self.inputs(moment, node);
            }
            return Ok(());
        }
        let result = moment.array(value)?;
        let wild = Wild::of(&result.to_f32());
        self.known[value.index()] = wild;
        let given = self.inputs(moment, node);
        if wild.nan && !given.nan && self.nan.is_none() {
            self.nan = Some(self.finding(moment, value, &result, "NaN")?);
        }
        if wild.infinite && !given.nan && !given.infinite && self.infinity.is_none() {
            self.infinity = Some(self.finding(moment, value, &result, "infinity")?);
        }
        Ok(())
    }
}

fn is_float(dtype: DType) -> bool {
    dtype.is_float()
}

/// The value whose bytes these are.
fn root(moment: &Moment<'_>, mut value: Value) -> Value {
    while let Op::Reshape(_) = moment.graph().node(value).op {
        value = moment.graph().node(value).inputs[0];
    }
    value
}

impl Finding {
    /// One line for a person.
    pub(super) fn describe(&self) -> String {
        let Self { what, count, at, shape, .. } = self;
        let origin = self.node.origin.as_deref();
        let place = describe_place(origin, &self.node.scope, self.node.op.name(), self.value);
        let cause = match &self.weight {
            Some(path) => format!("its weight `{path}` holds one"),
            None => {
                let inputs: Vec<_> = self.inputs.iter().map(|most| format!("{most:.3e}")).collect();
                format!("the largest magnitudes of its inputs are {}", inputs.join(", "))
            }
        };
        format!("the first {what} is made by {place}: {count} in {shape:?}, first at {at:?}; {cause}")
    }

    pub(super) fn to_json(&self) -> Json {
        let mut facts = json!({
            "what": self.what,
            "operator": self.node.op.name(),
            "count": self.count,
            "at": self.at,
            "shape": self.shape,
            "largest_inputs": self.inputs,
            "weight": self.weight,
        });
        place_json(self.node.origin.as_deref(), &self.node.scope, self.value, &mut facts);
        facts
    }
}
