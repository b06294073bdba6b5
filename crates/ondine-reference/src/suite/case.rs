//! One case: a graph, its arguments, and what comes of them.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use half::{bf16, f16};
use ondine_graph::{
    Asset, DType, Error, ErrorKind, Graph, NDArray, Op, Result, Shape, Tensor as Stored, Value, Weights, element_count,
};
use ondine_runtime::{Device, Options, Precision, Specialize, State};

use crate::{
    graph::{Arguments, Rounding, evaluate_graph},
    number::Bounded,
    tensor::{Elements, Tensor},
};

/// A graph with its arguments.
#[derive(Clone, Debug)]
pub struct Case {
    name: String,
    graph: Graph,
    weights: BTreeMap<Arc<str>, NDArray>,
    inputs: BTreeMap<Arc<str>, NDArray>,
    seed: u64,
    refused: bool,
}

/// What went wrong with a case.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The case.
    pub case: String,
    /// What differs, or the error.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.case, self.message)
    }
}

impl Case {
    /// A case whose graph `build` makes; results are what it yields.
    ///
    /// # Panics
    /// If the graph cannot be built: a defect of the case.
    #[expect(clippy::panic, reason = "a case that cannot be made is a fault of the suite")]
    pub(crate) fn new(name: impl Into<String>, build: impl FnOnce(&mut Self) -> Result<Value>) -> Self {
        let name = name.into();
        let seed = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        let (graph, weights, inputs) = (Graph::new(), BTreeMap::new(), BTreeMap::new());
        let mut case = Self { name, graph, weights, inputs, seed, refused: false };
        match build(&mut case) {
            Ok(value) => case.graph.output("out", value),
            Err(error) => panic!("{}: {error}", case.name),
        }
        case
    }

    /// A case that a device has to refuse, for its data.
    pub(crate) fn refused(name: impl Into<String>, build: impl FnOnce(&mut Self) -> Result<Value>) -> Self {
        Self { refused: true, ..Self::new(name, build) }
    }

    /// A case of one operator on random inputs of these types and shapes.
    pub(crate) fn of(op: Op, inputs: &[(DType, &[usize])]) -> Self {
        Self::new(format!("{op:?} of {inputs:?}"), |case| {
            let values: Vec<Value> = inputs.iter().map(|&(dtype, shape)| case.random(dtype, shape)).collect();
            case.graph.push(op, &values)
        })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its graph.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Its graph, to be built.
    pub(crate) fn graph_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }

    /// Adds an operator.
    pub(crate) fn push(&mut self, op: Op, inputs: &[Value]) -> Result<Value> {
        self.graph.push(op, inputs)
    }

    /// Adds another result.
    pub(crate) fn output(&mut self, value: Value) {
        let name = format!("out {}", self.graph.outputs().len());
        self.graph.output(&name, value);
    }

    /// Adds an argument.
    pub(crate) fn input(&mut self, array: NDArray) -> Value {
        let shape: Shape = array.shape().into();
        self.symbolic(shape, array)
    }

    /// Adds an argument whose sizes have names.
    pub(crate) fn symbolic(&mut self, shape: impl Into<Shape>, array: NDArray) -> Value {
        let name = format!("in {}", self.inputs.len());
        let value = self.graph.input(&name, array.dtype(), shape);
        self.inputs.insert(name.into(), array);
        value
    }

    /// Adds an argument of random elements.
    pub(crate) fn random(&mut self, dtype: DType, shape: &[usize]) -> Value {
        let array = self.draw(dtype, shape);
        self.input(array)
    }

    /// Adds a tensor of the checkpoint, of random numbers.
    pub(crate) fn weight(&mut self, shape: &[usize]) -> Result<Value> {
        let array = self.draw(DType::F32, shape);
        let name = format!("weight {}", self.weights.len());
        let value = self.graph.weight(&name, shape)?;
        self.weights.insert(name.into(), array);
        Ok(value)
    }

    /// An argument of indices that count in `rows` rows.
    pub(crate) fn indices(&mut self, dtype: DType, shape: &[usize], rows: usize, negative: bool) -> Value {
        let indices: Vec<i64> = (0..element_count(shape).unwrap_or(0))
            .map(|_| {
                let index = (self.next() % rows.max(1) as u64) as i64;
                if negative && self.next().is_multiple_of(2) { index - rows as i64 } else { index }
            })
            .collect();
        self.input(array(dtype, shape, &indices))
    }

    /// Random elements: floating-point numbers in -1..1, integers of one digit.
    pub(crate) fn draw(&mut self, dtype: DType, shape: &[usize]) -> NDArray {
        let numbers: Vec<f64> = (0..element_count(shape).unwrap_or(0)).map(|_| self.number()).collect();
        if dtype.is_float() {
            return reals(dtype, shape, &numbers);
        }
        let (low, count) = match dtype {
            DType::Bool => (0.0, 2.0),
            DType::U8 | DType::U16 | DType::U32 | DType::U64 => (0.0, 10.0),
            _ => (-9.0, 19.0),
        };
        let integers: Vec<i64> = numbers.iter().map(|x| (low + ((x + 1.0) / 2.0 * count).floor()) as i64).collect();
        array(dtype, shape, &integers)
    }

    /// A random number in -1..1.
    pub(crate) fn number(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    fn next(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// The graph with its weights.
    ///
    /// # Errors
    /// If a weight is missing.
    pub fn asset(&self) -> Result<Asset> {
        let mut weights = Weights::default();
        for (name, array) in &self.weights {
            let (dtype, shape) = (array.dtype(), array.shape().to_vec());
            weights.insert(name, Stored { dtype, shape, bytes: array.bytes().into(), file: "memory".into() });
        }
        Asset::new("case", [("main", self.graph.clone())], weights)
    }

    /// The arguments of a call.
    #[must_use]
    pub fn inputs(&self) -> Vec<(&str, &NDArray)> {
        self.inputs.iter().map(|(name, array)| (&**name, array)).collect()
    }

    /// What a device has to yield that may round, with what it may be off by.
    ///
    /// # Errors
    /// As [`evaluate_graph`].
    pub fn wanted(&self, rounding: Rounding) -> Result<BTreeMap<Arc<str>, Tensor<Bounded>>> {
        let tensors = |arrays: &BTreeMap<Arc<str>, NDArray>| {
            arrays.iter().map(|(name, array)| (name.clone(), Tensor::from_array(array))).collect()
        };
        let (weights, inputs) = (tensors(&self.weights), tensors(&self.inputs));
        let arguments = Arguments { weights, inputs, states: BTreeMap::new() };
        Ok(evaluate_graph(&self.graph, &arguments, rounding)?.outputs)
    }

    /// Runs the case on a device and compares.
    ///
    /// # Errors
    /// If the device does not do what the operators mean.
    pub fn run(&self, device: &Device, precision: Precision) -> Result<(), Failure> {
        let fail = |message: String| Err(Failure { case: self.name.clone(), message });
        let Ok(found) = catch_unwind(AssertUnwindSafe(|| self.call(device, precision))) else {
            return fail("the device panicked".into());
        };
        let rounding = Rounding::new(device.backend().identity(), precision);
        match (self.wanted(rounding), found) {
            (Err(wanted), Err(found)) if self.refused && wanted.kind() == found.kind() => Ok(()),
            (Err(wanted), Err(found)) => fail(format!("wanted `{wanted}`, found `{found}`")),
            (Err(wanted), Ok(_)) => fail(format!("wanted `{wanted}`, found a result")),
            (Ok(_), Err(found)) => fail(format!("found `{found}`")),
            (Ok(_), Ok(_)) if self.refused => fail("wanted an error".into()),
            (Ok(wanted), Ok(found)) => {
                for (name, wanted) in &wanted {
                    if let Some(message) = found.get(name).map_or(Some("no result".into()), |x| difference(wanted, x)) {
                        return fail(format!("{name}: {message}"));
                    }
                }
                Ok(())
            }
        }
    }

    fn call(&self, device: &Device, precision: Precision) -> Result<BTreeMap<Arc<str>, NDArray>, Error> {
        let model = self.asset()?.specialize(&Options { precision, ..Options::default() }, device, None)?.load()?;
        let function = model.function("main")?;
        let run = || -> Result<BTreeMap<Arc<str>, NDArray>> {
            let outputs = function.run(&self.inputs(), &mut State::default())?;
            Ok(outputs.iter().map(|(name, array)| (name.clone(), array.clone())).collect())
        };
        let (first, second) = (run()?, run()?);
        if first != second {
            return Err(Error::new(ErrorKind::Internal, "the same arguments yield other bits"));
        }
        Ok(first)
    }
}

/// Where an array is not what is wanted.
fn difference(wanted: &Tensor<Bounded>, found: &NDArray) -> Option<String> {
    if (wanted.dtype(), wanted.shape()) != (found.dtype(), found.shape()) {
        return Some(format!("{} {:?}, wanted {} {:?}", found.dtype(), found.shape(), wanted.dtype(), wanted.shape()));
    }
    let found = Tensor::<f64>::from_array(found);
    match (wanted.elements(), found.elements()) {
        (Elements::Real(wanted_numbers), Elements::Real(found)) => {
            let wrong = wanted_numbers.iter().zip(found).position(|(want, &x)| !want.allows(x, wanted.dtype()))?;
            let Bounded { value, error } = wanted_numbers[wrong];
            Some(format!("{:e} at {wrong}, wanted {value:e} +- {error:e}", found[wrong]))
        }
        (Elements::Integer(wanted), Elements::Integer(found)) => {
            let wrong = wanted.iter().zip(found).position(|(want, x)| want != x)?;
            Some(format!("{} at {wrong}, wanted {}", found[wrong], wanted[wrong]))
        }
        _ => Some("elements of another kind".into()),
    }
}

/// Numbers in a floating-point type.
///
/// # Panics
/// If they do not fill the shape.
#[expect(clippy::expect_used, reason = "said in the message: the cases are the suite's own")]
pub(crate) fn reals(dtype: DType, shape: &[usize], numbers: &[f64]) -> NDArray {
    let bytes: Vec<u8> = match dtype {
        DType::F16 => numbers.iter().flat_map(|&x| f16::from_f64(x).to_le_bytes()).collect(),
        DType::BF16 => numbers.iter().flat_map(|&x| bf16::from_f64(x).to_le_bytes()).collect(),
        DType::F64 => numbers.iter().flat_map(|&x| x.to_le_bytes()).collect(),
        _ => numbers.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect(),
    };
    NDArray::from_bytes(dtype, shape, &bytes).expect("numbers fill the shape of a case")
}

/// Integers in an integer type.
///
/// # Panics
/// If they do not fill the shape.
#[expect(clippy::expect_used, reason = "said in the message: the cases are the suite's own")]
pub(crate) fn array(dtype: DType, shape: &[usize], numbers: &[i64]) -> NDArray {
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes().into_iter().take(dtype.size())).collect();
    NDArray::from_bytes(dtype, shape, &bytes).expect("numbers fill the shape of a case")
}
