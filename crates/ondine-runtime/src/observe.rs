//! Looking at the values of a call while it runs.
//!
//! The executor is the only place that knows them all: whoever wants to see intermediate values hands a [`Tap`] to
//! [`Function::observe`](crate::Function::observe). A call without one pays nothing.

use ondine_graph::{Graph, NDArray, Named, Op, Result, Value, fail};

use crate::step::Plan;

/// Sees the values of a call, one after the other.
///
/// ```
/// use ondine_runtime::{Asset, DType, Device, Graph, Moment, NDArray, Options, Result, Specialize, State, Tap,
/// Weights};
///
/// /// Keeps the largest magnitude of every value.
/// struct Largest(Vec<(String, f32)>);
///
/// impl Tap for Largest {
///     fn look(&mut self, moment: &Moment<'_>) -> Result<()> {
///         if let Some(value) = moment.value() {
///             let numbers = moment.array(value)?.to_f32();
///             let largest = numbers.into_iter().fold(0.0, |most: f32, x| most.max(x.abs()));
///             self.0.push((moment.graph().node(value).op.to_string(), largest));
///         }
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let mut graph = Graph::new();
/// let x = graph.input("x", DType::F32, [2]);
/// let sum = graph.add(x, x)?;
/// let y = graph.softmax(sum)?;
/// graph.output("y", y);
/// let asset = Asset::new("example", [("main", graph)], Weights::default())?;
/// let function = asset.specialize(&Options::default(), &Device::cpu(None)?, None)?.load()?.function("main")?;
/// let mut tap = Largest(Vec::new());
/// function.observe(&[("x", &NDArray::new(&[2], &[3.0_f32, -4.0])?)], &mut State::default(), &mut tap)?;
/// assert_eq!(tap.0[0], ("add".to_owned(), 8.0));
/// # Ok(())
/// # }
/// ```
pub trait Tap {
    /// Is called before the first operator, and after each one.
    ///
    /// # Errors
    /// An error ends the call, which yields it.
    fn look(&mut self, moment: &Moment<'_>) -> Result<()>;
}

/// What there is to see after one operator of a call.
pub struct Moment<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) plan: &'a Plan,
    /// Brings a value whose memory holds it.
    pub(crate) fetch: &'a dyn Fn(Value) -> Result<NDArray>,
    pub(crate) value: Option<Value>,
}

impl<'a> Moment<'a> {
    /// The graph that runs.
    #[must_use]
    pub fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// The node whose bytes the value's are.
    fn root(&self, value: Value) -> Value {
        self.plan.roots[value.index()]
    }

    /// The value that was just computed; none before the first operator.
    #[must_use]
    pub fn value(&self) -> Option<Value> {
        self.value
    }

    /// The names of the imported program whose values there are from now on: those of the value that was just
    /// computed and, before the first operator, of arguments, states and constants. Weights are packed, and not among
    /// them.
    pub fn named(&self) -> impl Iterator<Item = &'a Named> {
        self.graph().named().iter().filter(|named| {
            let root = self.root(named.value);
            match self.value {
                Some(value) => root == value,
                None => matches!(self.graph().node(root).op, Op::Input | Op::State(_) | Op::Const(_)),
            }
        })
    }

    /// The value under a name, its dimensions in the order of the program.
    ///
    /// # Errors
    /// As [`Moment::array`].
    pub fn named_array(&self, named: &Named) -> Result<NDArray> {
        let array = self.array(named.value)?;
        if named.axes.is_sorted() { Ok(array) } else { array.permute(&named.axes) }
    }

    /// A copy of a value: of the one that was just computed or one of its inputs, of an argument, a state or a
    /// constant. Rows that a backend quantized come with the bytes of their scales.
    ///
    /// # Errors
    /// If the value is another one, whose memory may hold something else by now, or a weight, which is packed.
    pub fn array(&self, value: Value) -> Result<NDArray> {
        let graph = self.graph();
        let root = self.root(value);
        let inputs = self.value.map_or(&[][..], |value| &graph.node(value).inputs);
        let held = match graph.node(root).op {
            Op::Weight(_) => false,
            Op::Input | Op::State(_) | Op::Const(_) => true,
            _ => self.value == Some(root) || inputs.iter().any(|&input| self.root(input) == root),
        };
        if !held {
            fail!(Missing, "the value of {} is not at hand", graph.node(root).op);
        }
        (self.fetch)(value)
    }
}

impl std::fmt::Debug for Moment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moment").field("value", &self.value).finish_non_exhaustive()
    }
}
