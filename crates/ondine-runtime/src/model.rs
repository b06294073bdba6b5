//! The running stage: functions that can be called.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use ondine_graph::{Bindings, Context, DType, Graph, NDArray, Node, Op, Real, Result, Value, fail};

use crate::{
    backend::{Argument, Loaded, Resident},
    call::{self, Kept},
    cancel::Wish,
    device::Device,
    exec::Watch,
    lowered::Lowered,
    observe::Tap,
    plan::{Planner, check_planned},
    plans::Plans,
    specialize::Specialized,
    state::{Outputs, State},
    step::{Plan, Sizes},
};

/// A loaded asset; clones are cheap and share the packed weights, as do all functions.
///
/// ```
/// use ondine_runtime::{Asset, DType, Device, Graph, Options, Specialize, Weights};
///
/// fn times(factor: f32) -> ondine_runtime::Result<Graph> {
///     let mut graph = Graph::new();
///     let x = graph.input("x", DType::F32, ["n"]);
///     let y = graph.affine(x, factor, 0.0)?;
///     graph.output("y", y);
///     Ok(graph)
/// }
///
/// # fn main() -> ondine_runtime::Result<()> {
/// let functions = [("double", times(2.0)?), ("halve", times(0.5)?)];
/// let asset = Asset::new("example", functions, Weights::default())?;
/// let model = asset.specialize(&Options::default(), &Device::cpu(None)?, None)?.load()?;
/// let (double, halve) = (model.function("double")?, model.function("halve")?);
/// assert!(model.function("triple").is_err());
/// # let _ = (double, halve);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Model {
    specialized: Arc<Specialized>,
    loaded: Arc<dyn Loaded>,
}

/// One function of a model, callable from many threads at once; clones share weights and plans.
///
/// Each thread brings its own [`State`]; the weights are those of the model, however many call. Inputs are [`NDArray`]s
/// of exactly the signature's element types, and of its shape with the same size for the same symbol.
///
/// ```
/// use ondine_runtime::{Asset, DType, Device, ErrorKind, Graph, NDArray, Options, Specialize, State, Weights};
///
/// # fn main() -> ondine_runtime::Result<()> {
/// let mut graph = Graph::new();
/// let (a, b) = (graph.input("a", DType::F32, ["n", "m"]), graph.input("b", DType::F32, ["n", "m"]));
/// let sum = graph.add(a, b)?;
/// graph.output("sum", sum);
/// let asset = Asset::new("example", [("add", graph)], Weights::default())?;
/// let add = asset.specialize(&Options::default(), &Device::cpu(None)?, None)?.load()?.function("add")?;
///
/// let (a, b) = (NDArray::new(&[1, 2], &[1.0_f32, 2.0])?, NDArray::new(&[1, 2], &[10.0_f32, 20.0])?);
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| {
///             let mut outputs = add.run(&[("b", &b), ("a", &a)], &mut State::default()).expect("both fit");
///             assert_eq!(outputs.take("sum").unwrap().view::<f32>().unwrap(), [11.0, 22.0]);
///         });
///     }
/// });
/// let wide = NDArray::zeros(DType::F32, &[1, 3])?;
/// let error = add.run(&[("a", &a), ("b", &wide)], &mut State::default()).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Shape);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Function {
    model: Model,
    name: Arc<str>,
    lowered: Arc<Lowered>,
    /// The arguments that are sizes, by position, with the nodes that measure them.
    numbers: Arc<[(usize, Value)]>,
    /// True once it was seen that calls have to be planned for exactly their numbers.
    exact: Arc<AtomicBool>,
    plans: Arc<Mutex<Plans>>,
}

impl Specialized {
    /// Makes the functions callable.
    ///
    /// # Errors
    /// If the device has no memory for the weights.
    pub fn load(self) -> Result<Model> {
        let loaded = self.device.backend().load(&Arc::new(self.to_load())).at(|| &self.name)?;
        Ok(Model { specialized: Arc::new(self), loaded })
    }
}

impl Model {
    /// What was loaded.
    #[must_use]
    pub fn specialized(&self) -> &Specialized {
        &self.specialized
    }

    /// The function `name`.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn function(&self, name: &str) -> Result<Function> {
        let Some((name, lowered)) = self.specialized.functions.get_key_value(name) else {
            fail!(Missing, "{}: there is no function `{name}`", self.specialized.name);
        };
        let (name, lowered) = (name.clone(), lowered.clone());
        let numbers = numbers(&lowered.graph).into();
        Ok(Function { model: self.clone(), name, lowered, numbers, exact: Arc::default(), plans: Arc::default() })
    }
}

impl Function {
    /// The rewritten graph: its inputs and outputs are the function's.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.lowered.graph
    }

    /// The memory plan for one binding of the symbols; the ones used last are kept for the next call.
    ///
    /// # Errors
    /// If a symbol is missing or has no possible value.
    pub fn plan(&self, bindings: &Bindings) -> Result<Arc<Plan>> {
        let known = self.plans().get(bindings);
        known.map_or_else(|| self.plan_anew(bindings.into()), Ok)
    }

    fn plan_anew(&self, sizes: Sizes) -> Result<Arc<Plan>> {
        let plan = Arc::new(self.planner().plan(&sizes)?);
        self.plans().insert(sizes, plan.clone());
        Ok(plan)
    }

    /// The plan of a call, which the call may change.
    ///
    /// A function with states is called again and again with numbers that grow, as that of the tokens which a
    /// conversation has: it is planned for somewhat more, and brought to what the numbers are.
    fn plan_call(&self, bindings: &Bindings, numbers: &[Arc<str>]) -> Result<Arc<Plan>> {
        let begin = |bound: &Bindings, most: &Bindings| {
            let known = self.plans().begin(bound, most);
            known.map_or_else(|| self.plan_anew(Sizes { bound: bound.clone(), most: most.clone() }), Ok)
        };
        let exactly = || begin(bindings, &Bindings::new());
        if numbers.is_empty() || self.graph().states().is_empty() || self.exact.load(Ordering::Relaxed) {
            return exactly();
        }
        let (mut bound, mut most) = (bindings.clone(), Bindings::new());
        for symbol in numbers {
            most.extend(bound.remove_entry(symbol).map(|(symbol, number)| (symbol, roomy(number))));
        }
        begin(&bound, &most).or_else(|_| {
            // Not every size that speaks of a number tells how large it can be.
            self.exact.store(true, Ordering::Relaxed);
            exactly()
        })
    }

    fn plans(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn planner(&self) -> Planner<'_> {
        let specialized = &self.model.specialized;
        let (entries, backend) = (&specialized.entries, &**specialized.device.backend());
        Planner { lowered: &self.lowered, entries, backend }
    }

    /// The sizes of symbols that these inputs bind.
    ///
    /// # Errors
    /// As [`Function::run`], of inputs that do not fit.
    pub fn bindings(&self, inputs: &[(&str, &NDArray)]) -> Result<Bindings> {
        self.bind(&host(inputs)).map(|(_, bindings, _)| bindings)
    }

    /// Calls the function with all its inputs by name, in any order; symbols take the sizes of the inputs.
    ///
    /// # Errors
    /// If an input is missing, unknown, or has a type or shape that does not fit, if an index is out of its table,
    /// or on the device's wish to stop. States are as before then, but for those that are written where they lie:
    /// they hold what was written before the error.
    pub fn run(&self, inputs: &[(&str, &NDArray)], state: &mut State) -> Result<Outputs> {
        self.watched(inputs, state, &mut Watch::default())
    }

    /// As [`Function::run`]; `tap` sees every value on the way.
    ///
    /// # Errors
    /// As [`Function::run`], and the first error of the tap.
    pub fn observe(&self, inputs: &[(&str, &NDArray)], state: &mut State, tap: &mut dyn Tap) -> Result<Outputs> {
        self.watched(inputs, state, &mut Watch { tap: Some(tap), wish: None })
    }

    /// As [`Function::run`]; `wish` can stop it too.
    ///
    /// # Errors
    /// As [`Function::run`].
    pub fn run_until(&self, inputs: &[(&str, &NDArray)], state: &mut State, wish: &Wish) -> Result<Outputs> {
        wish.check()?;
        self.watched(inputs, state, &mut Watch { tap: None, wish: Some(wish) })
    }

    /// As [`Function::run`], of arguments that may be on the device and results that stay there, in the order of the
    /// graph's outputs.
    ///
    /// # Errors
    /// As [`Function::run`].
    pub fn run_resident(&self, inputs: &[(&str, Argument<'_>)], state: &mut State) -> Result<Vec<Resident>> {
        let kept = self.call(inputs, state, &mut Watch::default())?;
        self.ended(kept, Kept::residents)
    }

    pub(crate) fn watched(
        &self,
        inputs: &[(&str, &NDArray)],
        state: &mut State,
        watch: &mut Watch<'_>,
    ) -> Result<Outputs> {
        let kept = self.call(&host(inputs), state, watch)?;
        self.ended(kept, |kept| kept.outputs(self.graph()))
    }

    /// What is made of the results of a call; its plan is for the next one, if the data decides sizes of it.
    fn ended<T>(&self, kept: Kept, results: impl FnOnce(Kept) -> Result<T>) -> Result<T> {
        let plan = kept.plan().settles().then(|| kept.plan().clone());
        let results = results(kept)?;
        if let Some(plan) = plan {
            self.plans().end(plan);
        }
        Ok(results)
    }

    fn call(&self, inputs: &[(&str, Argument<'_>)], state: &mut State, watch: &mut Watch<'_>) -> Result<Kept> {
        let place = || format!("{}.{}", self.model.specialized.name, self.name);
        let (arguments, bindings, numbers) = self.bind(inputs).at(place)?;
        let plan = self.plan_call(&bindings, &numbers).at(place)?;
        let device = &self.model.specialized.device;
        let planner = self.planner();
        call::call(planner, &self.model.loaded, device, plan, &arguments, &bindings, state, watch).at(place)
    }

    /// The device that it runs on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.model.specialized.device
    }

    /// The inputs in the graph's order, what they bind, and the symbols that only their numbers bind.
    fn bind<'a>(&self, inputs: &[(&str, Argument<'a>)]) -> Result<(Vec<Argument<'a>>, Bindings, Vec<Arc<str>>)> {
        let graph = self.graph();
        let names = || graph.inputs().iter().map(|(name, _)| &**name).collect::<Vec<_>>().join(", ");
        let settled = graph.settled_inputs();
        for (name, argument) in inputs {
            if graph.inputs().iter().any(|(known, _)| **known == **name) {
                continue;
            }
            if let Some(value) = settled.get(*name) {
                check_settled(name, argument, value)?;
                continue;
            }
            fail!(Extra, "there is no input `{name}`; the inputs are {}", names());
        }
        let mut arguments = Vec::with_capacity(inputs.len());
        let mut bindings = Bindings::new();
        for (name, value) in graph.inputs() {
            let Some((_, array)) = inputs.iter().find(|(given, _)| **given == **name) else {
                fail!(Missing, "input `{name}` is missing; the inputs are {}", names());
            };
            let signature = &graph.node(*value).signature;
            if array.dtype() != signature.dtype || array.shape().len() != signature.shape.rank() {
                let (dtype, shape) = (array.dtype(), array.shape());
                fail!(Shape, "input `{name}` is {dtype} {shape:?}, wanted {} {}", signature.dtype, signature.shape);
            }
            for (dim, &size) in signature.shape.0.iter().zip(array.shape()) {
                if let Some((symbol, value)) = dim.solve(size).at(|| format!("input `{name}`"))? {
                    bindings.entry(symbol.clone()).or_insert(value);
                }
            }
            arguments.push(*array);
        }
        let numbers = self.bind_numbers(&arguments, &mut bindings)?;
        graph.check(&bindings)?;
        for ((name, value), array) in graph.inputs().iter().zip(&arguments) {
            let signature = &graph.node(*value).signature;
            if signature.shape.bind(&bindings)? != array.shape() {
                let shape = array.shape();
                fail!(Shape, "input `{name}` has shape {shape:?}, wanted {} with {bindings:?}", signature.shape);
            }
        }
        Ok((arguments, bindings, numbers))
    }

    /// Binds the sizes that arguments are the numbers of, so that memory is planned for what they are; yields those
    /// that nothing else binds.
    fn bind_numbers(&self, arguments: &[Argument<'_>], bindings: &mut Bindings) -> Result<Vec<Arc<str>>> {
        let mut numbers = Vec::new();
        for &(position, value) in &*self.numbers {
            let Op::Measure { size, most } = &self.graph().node(value).op else { continue };
            let Some(Argument::Host(array)) = arguments.get(position) else { continue };
            // One that is negative is no size, which the call tells where it is used as one.
            let [number] = array.view::<i64>()? else { continue };
            if let Ok(number) = usize::try_from(*number)
                && let Some((symbol, value)) = size.solve(number)?
                && !bindings.contains_key(symbol)
            {
                bindings.insert(symbol.clone(), value);
                numbers.push(symbol.clone());
            }
            check_planned(size, most, *number, bindings)?;
        }
        Ok(numbers)
    }
}

/// Makes sure that an argument that always has the same value has it.
fn check_settled(name: &str, argument: &Argument<'_>, value: &Real) -> Result<()> {
    let Argument::Host(array) = argument else { return Ok(()) };
    let same = match (array.dtype(), value) {
        (_, Real::Of(dim)) if array.dtype() == DType::I64 => {
            matches!(array.view::<i64>()?, [number] if dim.constant() == Some(*number))
        }
        (DType::Bool, value) => matches!(array.bytes(), [truth] if value.known() == Some(f64::from(*truth))),
        (DType::F32, value) => {
            matches!(array.view::<f32>()?, [number] if value.known().is_some_and(|value| value as f32 == *number))
        }
        _ => false,
    };
    if !same {
        fail!(Shape, "the argument `{name}` was {value} when the model was made, and must be that in every call");
    }
    Ok(())
}

/// What is planned for where a number is likely to grow: an eighth more at most, or 16.
fn roomy(number: usize) -> usize {
    let step = (number / 16).next_power_of_two().max(16);
    number.saturating_add(1).checked_next_multiple_of(step).unwrap_or(number)
}

/// The arguments that are numbers which a node measures.
fn numbers(graph: &Graph) -> Vec<(usize, Value)> {
    let measured = graph.values().filter(|(_, node)| matches!(node.op, Op::Measure { .. }));
    let number = |(value, node): (Value, &Node)| {
        let position = graph.inputs().iter().position(|(_, input)| node.inputs.first() == Some(input))?;
        Some((position, value))
    };
    measured.filter_map(number).collect()
}

/// Arguments in the program's memory.
fn host<'a, 'n>(inputs: &[(&'n str, &'a NDArray)]) -> Vec<(&'n str, Argument<'a>)> {
    inputs.iter().map(|&(name, array)| (name, Argument::Host(array))).collect()
}

#[cfg(test)]
mod tests {
    use ondine_graph::{Asset, Attention, Dim, Mask, Reduce, Scatter, Shape, Weights};

    use super::*;
    use crate::{options::Options, specialize::Specialize};

    /// Appends a row to a state and yields the sum of all rows, and as many numbers as `size` says.
    fn appending(size: impl Fn(&Dim) -> Dim) -> Function {
        let mut graph = Graph::new();
        let count = graph.input("past", DType::I64, Shape::default());
        let row = graph.input("row", DType::F32, [1, 2]);
        let past = Dim::symbol("past");
        graph.push(Op::Measure { size: past.clone(), most: 63.into() }, &[count]).unwrap();
        let rows = graph.state("rows", DType::F32, [64, 2]);
        let at = graph.push(Op::Range { start: past.clone(), step: 1, count: 1.into() }, &[]).unwrap();
        let rows = graph.push(Op::Scatter(Scatter::Replace), &[rows, at, row]).unwrap();
        graph.update_state("rows", rows).unwrap();
        let known = graph.slice(rows, 0, 0, &past + 1).unwrap();
        let sum = graph.reduce(Reduce::Sum, known, &[0], false).unwrap();
        graph.output("sum", sum);
        let range = graph.push(Op::Range { start: 0.into(), step: 1, count: size(&past) }, &[]).unwrap();
        graph.output("range", range);
        let asset = Asset::new("appending", [("main", graph)], Weights::default()).unwrap();
        let specialized = asset.specialize(&Options::default(), &Device::cpu(None).unwrap(), None).unwrap();
        specialized.load().unwrap().function("main").unwrap()
    }

    #[test]
    fn a_number_that_grows_is_planned_for_once_in_a_while() {
        let (function, mut state) = (appending(|past| past + 1), State::default());
        for past in 0..40_i64 {
            let row = NDArray::new(&[1, 2], &[1.0_f32, past as f32]).unwrap();
            let inputs = [("past", &NDArray::scalar(past)), ("row", &row)];
            let mut outputs = function.run(&inputs, &mut state).unwrap();
            let sum = (past * (past + 1) / 2) as f32;
            assert_eq!(outputs.take("sum").unwrap().view::<f32>().unwrap(), [past as f32 + 1.0, sum]);
            assert_eq!(outputs.take("range").unwrap().shape(), [past as usize + 1]);
        }
        assert_eq!(function.plans().len(), 3, "for up to 16, 32 and 48");
        assert!(!function.exact.load(Ordering::Relaxed));
        let row = NDArray::zeros(DType::F32, &[1, 2]).unwrap();
        assert!(function.run(&[("past", &NDArray::scalar(64_i64)), ("row", &row)], &mut state).is_err());
    }

    #[test]
    fn attention_to_keys_that_grow_has_its_memory_at_every_precision() {
        for (_, precision) in crate::options::Precision::ALL {
            let mut graph = Graph::new();
            let count = graph.input("past", DType::I64, Shape::default());
            let row = graph.input("row", DType::F32, [1, 64]);
            let past = Dim::symbol("past");
            graph.push(Op::Measure { size: past.clone(), most: 255.into() }, &[count]).unwrap();
            let rows = graph.state("rows", DType::F32, [256, 64]);
            let at = graph.push(Op::Range { start: past.clone(), step: 1, count: 1.into() }, &[]).unwrap();
            let rows = graph.push(Op::Scatter(Scatter::Replace), &[rows, at, row]).unwrap();
            graph.update_state("rows", rows).unwrap();
            let known = graph.slice(rows, 0, 0, &past + 1).unwrap();
            let keys = graph.reshape(known, Shape(vec![1.into(), &past + 1, 64.into()])).unwrap();
            let query = graph.reshape(row, [1, 1, 64]).unwrap();
            let attention =
                Attention { heads: 1, kv_heads: 1, scale: 0.125, causal: false, window: None, mask: Mask::None };
            let y = graph.push(Op::Attention(attention), &[query, keys, keys]).unwrap();
            graph.output("y", y);
            let asset = Asset::new("attending", [("main", graph)], Weights::default()).unwrap();
            let options = Options { precision, ..Options::default() };
            let specialized = asset.specialize(&options, &Device::cpu(None).unwrap(), None).unwrap();
            let (function, mut state) = (specialized.load().unwrap().function("main").unwrap(), State::default());
            for past in 0..200_i64 {
                let row = NDArray::new(&[1, 64], &[1.0_f32; 64]).unwrap();
                let mut outputs = function.run(&[("past", &NDArray::scalar(past)), ("row", &row)], &mut state).unwrap();
                let y = outputs.take("y").unwrap();
                let mean = y.view::<f32>().unwrap().iter().all(|y| (y - 1.0).abs() < 0.01);
                assert!(mean, "{precision}, {past}: {y:?}");
            }
            assert!(!function.exact.load(Ordering::Relaxed), "{precision}");
        }
    }
}
