//! The running stage: functions that can be called.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{device::Device, exec::{self, Watch}, observe::Tap, plan::Plan, profile::Profile, specialize::{plan_of, Lowered, Specialized}};
use ondine_graph::{fail, AlignedBytes, Bindings, Context, Graph, NDArray, Result};

/// A loaded asset; clones are cheap and share the packed weights, as do all functions.
///
/// ```
/// use ondine_runtime::{Asset, DType, Device, Graph, Options, Weights};
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
/// let model = asset.specialize(&Options::default(), &Device::cpu(None)?, None)?.load();
/// let (double, halve) = (model.function("double")?, model.function("halve")?);
/// assert!(model.function("triple").is_err());
/// # let _ = (double, halve);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Model {
    specialized: Arc<Specialized>,
}

/// One function of a model, callable from many threads at once; clones share weights and plans.
///
/// Each thread brings its own [`State`]; the weights are those of the model, however many call. Inputs are [`NDArray`]s of
/// exactly the signature's element types, and of its shape with the same size for the same symbol.
///
/// ```
/// use ondine_runtime::{Asset, DType, Device, ErrorKind, Graph, NDArray, Options, State, Weights};
///
/// # fn main() -> ondine_runtime::Result<()> {
/// let mut graph = Graph::new();
/// let (a, b) = (graph.input("a", DType::F32, ["n", "m"]), graph.input("b", DType::F32, ["n", "m"]));
/// let sum = graph.add(a, b)?;
/// graph.output("sum", sum);
/// let asset = Asset::new("example", [("add", graph)], Weights::default())?;
/// let add = asset.specialize(&Options::default(), &Device::cpu(None)?, None)?.load().function("add")?;
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
    plans: Arc<Mutex<HashMap<Bindings, Arc<Plan>>>>,
}

/// What a caller keeps between calls of a function: its states, and the workspace, which saves asking for memory
/// at every call. A fresh one has all states zero.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) states: BTreeMap<Arc<str>, NDArray>,
    pub(crate) arena: AlignedBytes,
    pub(crate) profile: Option<Profile>,
    pub(crate) frugal: bool,
}

impl State {
    /// A fresh state that measures every operator of its calls.
    #[must_use]
    pub fn profiled() -> Self {
        Self { profile: Some(Profile::default()), ..Self::default() }
    }

    /// A fresh state whose calls let go of every weight once it was used, for functions that are called now and then:
    /// if the weights are mapped from the cache, only those of one operator stay in memory.
    #[must_use]
    pub fn frugal() -> Self {
        Self { frugal: true, ..Self::default() }
    }

    /// The measurements since the last time, if the state measures.
    pub fn take_profile(&mut self) -> Option<Profile> {
        self.profile.as_mut().map(std::mem::take)
    }

    /// The state `name`, if a call has used it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&NDArray> {
        self.states.get(name)
    }
}

/// The results of a call, by name.
#[derive(Clone, Debug, Default)]
pub struct Outputs(pub(crate) BTreeMap<Arc<str>, NDArray>);

impl Outputs {
    /// Takes the result `name`.
    ///
    /// # Errors
    /// If the function has no such result, or it was taken before.
    pub fn take(&mut self, name: &str) -> Result<NDArray> {
        match self.0.remove(name) {
            Some(array) => Ok(array),
            None => fail!(Missing, "there is no result `{name}`"),
        }
    }

    /// All results by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &NDArray)> {
        self.0.iter()
    }
}

impl Model {
    pub(crate) fn new(specialized: Specialized) -> Self {
        Self { specialized: Arc::new(specialized) }
    }

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
        Ok(Function { model: self.clone(), name: name.clone(), lowered: lowered.clone(), plans: Arc::default() })
    }
}

impl Function {
    /// The rewritten graph: its inputs and outputs are the function's.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.lowered.graph
    }

    /// The memory plan for one binding of the symbols; kept for the next call.
    ///
    /// # Errors
    /// If a symbol is missing or has no possible value.
    pub fn plan(&self, bindings: &Bindings) -> Result<Arc<Plan>> {
        let known = |plans: &Mutex<HashMap<_, Arc<Plan>>>| {
            plans.lock().unwrap_or_else(PoisonError::into_inner).get(bindings).cloned()
        };
        if let Some(plan) = known(&self.plans) {
            return Ok(plan);
        }
        let specialized = &self.model.specialized;
        let plan = Arc::new(plan_of(&self.lowered, bindings, specialized.options, &specialized.device)?);
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.insert(bindings.clone(), plan.clone());
        Ok(plan)
    }

    /// The sizes of symbols that these inputs bind.
    ///
    /// # Errors
    /// As [`Function::run`], of inputs that do not fit.
    pub fn bindings(&self, inputs: &[(&str, &NDArray)]) -> Result<Bindings> {
        self.bind(inputs).map(|(_, bindings)| bindings)
    }

    /// Calls the function with all its inputs by name, in any order; symbols take the sizes of the inputs.
    ///
    /// # Errors
    /// If an input is missing, unknown, or has a type or shape that does not fit, if an index is out of its table,
    /// or on the device's wish to stop. The state is as before then, but for its workspace.
    pub fn run(&self, inputs: &[(&str, &NDArray)], state: &mut State) -> Result<Outputs> {
        self.watched(inputs, state, &mut Watch::default())
    }

    /// As [`Function::run`]; `tap` sees every value on the way.
    ///
    /// # Errors
    /// As [`Function::run`], and the first error of the tap.
    pub fn observe(&self, inputs: &[(&str, &NDArray)], state: &mut State, tap: &mut dyn Tap) -> Result<Outputs> {
        self.watched(inputs, state, &mut Watch { tap: Some(tap), cancel: None })
    }

    pub(crate) fn watched(
        &self,
        inputs: &[(&str, &NDArray)],
        state: &mut State,
        watch: &mut Watch<'_>,
    ) -> Result<Outputs> {
        let place = || format!("{}.{}", self.model.specialized.name, self.name);
        let (arguments, bindings) = self.bind(inputs).at(place)?;
        let plan = self.plan(&bindings).at(place)?;
        run::run(&self.model.specialized, &self.lowered, &plan, &arguments, &bindings, state, watch).at(place)
    }

    /// The device that it runs on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.model.specialized.device
    }

    /// The inputs in the graph's order, and what they bind.
    fn bind<'a>(&self, inputs: &[(&str, &'a NDArray)]) -> Result<(Vec<&'a NDArray>, Bindings)> {
        let graph = self.graph();
        let names = || graph.inputs().iter().map(|(name, _)| &**name).collect::<Vec<_>>().join(", ");
        if let Some((name, _)) =
            inputs.iter().find(|(name, _)| graph.inputs().iter().all(|(known, _)| **known != **name))
        {
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
        for (symbol, &[least, most]) in graph.limits() {
            match bindings.get(symbol) {
                Some(&size) if size < least || size > most => {
                    fail!(Shape, "the dimension `{symbol}` is {size}; the model was made for {least} to {most}")
                }
                _ => {}
            }
        }
        for ((name, value), array) in graph.inputs().iter().zip(&arguments) {
            let signature = &graph.node(*value).signature;
            if signature.shape.bind(&bindings)? != array.shape() {
                let shape = array.shape();
                fail!(Shape, "input `{name}` has shape {shape:?}, wanted {} with {bindings:?}", signature.shape);
            }
        }
        Ok((arguments, bindings))
    }
}
