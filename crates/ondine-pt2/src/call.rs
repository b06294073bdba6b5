//! One node of the program while it is lowered: its arguments by name, and what it must yield.

use std::{collections::HashMap, sync::Arc};

use super::{
    builder::{Builder, Tensor, wide},
    expr::Value,
    schema,
    schema::{Argument, OptionalTensor, SymArgument},
    types::{BFLOAT16, FLOAT8_E4M3, FLOAT8_E5M2, HALF, dim_of, dtype_of, is_complex, told_of},
};
use ondine_graph::{Binary, Condition, DType, Dim, NDArray, Real, Result, Unary, fail};

/// A value of the program.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Tensor(Tensor),
    Integer(Dim),
    /// A number that sizes make, which need not be whole.
    Real(Real),
    /// A truth that sizes make.
    Truth(Condition),
    /// A number that the call computes: a rank-0 tensor.
    Number(Tensor),
    /// A number that the call computes and that may be a size.
    Count {
        number: Tensor,
        size: Dim,
    },
    /// Numbers that nobody can tell beforehand: whoever reads them is refused.
    Random,
}

/// An argument that is a tensor or a number.
pub(super) enum Operand {
    Tensor(Tensor),
    Number { value: f64, integer: bool },
}

/// A node, and what its arguments stand for.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) op: &'a str,
    pub(super) overload: &'a str,
    pub(super) node: &'a schema::Node,
    pub(super) graph: &'a schema::Graph,
    pub(super) items: &'a HashMap<Arc<str>, Item>,
}

impl Call<'_> {
    fn argument(&self, name: &str) -> Option<&Argument> {
        let argument = self.node.inputs.iter().find(|input| input.name == name).map(|input| &input.arg);
        argument.filter(|argument| !matches!(argument, Argument::AsNone(_)))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.argument(name).is_some()
    }

    fn wrong<T>(&self, name: &str) -> Result<T> {
        match self.argument(name) {
            Some(_) => fail!(Unsupported, "argument `{name}` is of a kind that is not supported"),
            None => fail!(Format, "argument `{name}` is missing"),
        }
    }

    fn lookup(&self, name: &str) -> Result<Tensor> {
        match self.items.get(name) {
            Some(Item::Tensor(tensor) | Item::Number(tensor) | Item::Count { number: tensor, .. }) => {
                Ok(tensor.clone())
            }
            Some(Item::Random) => {
                fail!(Unsupported, "`{name}` is random, which no run repeats; give it to the program as an input")
            }
            Some(_) => fail!(Format, "`{name}` is no tensor"),
            None => fail!(Format, "`{name}` is used before it is there"),
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Tensor> {
        match self.try_tensor(name)? {
            Some(tensor) => Ok(tensor),
            None => self.wrong(name),
        }
    }

    pub(super) fn try_tensor(&self, name: &str) -> Result<Option<Tensor>> {
        match self.argument(name) {
            Some(Argument::AsTensor(tensor) | Argument::AsOptionalTensor(OptionalTensor::AsTensor(tensor))) => {
                self.lookup(&tensor.name).map(Some)
            }
            Some(
                Argument::AsSymFloat(SymArgument::AsName(sym))
                | Argument::AsSymInt(SymArgument::AsName(sym))
                | Argument::AsSymBool(SymArgument::AsName(sym)),
            ) => match self.items.get(sym) {
                Some(Item::Number(tensor) | Item::Count { number: tensor, .. }) => Ok(Some(tensor.clone())),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    pub(super) fn tensors(&self, name: &str) -> Result<Vec<Tensor>> {
        match self.argument(name) {
            Some(Argument::AsTensors(tensors)) => tensors.iter().map(|tensor| self.lookup(&tensor.name)).collect(),
            _ => self.wrong(name),
        }
    }

    pub(super) fn try_tensors(&self, name: &str) -> Result<Vec<Option<Tensor>>> {
        match self.argument(name) {
            Some(Argument::AsOptionalTensors(tensors)) => tensors
                .iter()
                .map(|tensor| match tensor {
                    OptionalTensor::AsTensor(tensor) => self.lookup(&tensor.name).map(Some),
                    OptionalTensor::AsNone(_) => Ok(None),
                })
                .collect(),
            _ => Ok(self.tensors(name)?.into_iter().map(Some).collect()),
        }
    }

    /// An argument as what sizes make, if it is that.
    pub(super) fn value(&self, name: &str) -> Option<Value> {
        let argument = self.argument(name)?;
        match argument {
            Argument::AsInt(value) => Some(Value::Integer(Dim::from_i64(*value))),
            Argument::AsFloat(value) => Some(Value::Real(Real::constant(value.value()))),
            Argument::AsBool(value) => Some(Value::Truth(Condition::Known(*value))),
            Argument::AsSymInt(symbol) | Argument::AsSymFloat(symbol) | Argument::AsSymBool(symbol) => match symbol {
                SymArgument::AsInt(value) => Some(Value::Integer(Dim::from_i64(*value))),
                SymArgument::AsFloat(value) => Some(Value::Real(Real::constant(*value))),
                SymArgument::AsBool(value) => Some(Value::Truth(Condition::Known(*value))),
                SymArgument::AsName(name) => match self.items.get(name)? {
                    Item::Integer(dim) | Item::Count { size: dim, .. } => Some(Value::Integer(dim.clone())),
                    Item::Real(real) => Some(Value::Real(real.clone())),
                    Item::Truth(condition) => Some(Value::Truth(condition.clone())),
                    Item::Tensor(_) | Item::Number(_) | Item::Random => None,
                },
            },
            _ => None,
        }
    }

    /// True if an argument is a number that the call finds.
    pub(super) fn is_found(&self, name: &str) -> bool {
        let symbol = match self.argument(name) {
            Some(Argument::AsSymInt(symbol) | Argument::AsSymFloat(symbol) | Argument::AsSymBool(symbol)) => symbol,
            _ => return false,
        };
        let SymArgument::AsName(name) = symbol else { return false };
        matches!(self.items.get(name), Some(Item::Count { .. } | Item::Number(_)))
    }

    fn symbol(&self, argument: &SymArgument) -> Result<Dim> {
        match argument {
            SymArgument::AsInt(value) => Ok(Dim::from_i64(*value)),
            SymArgument::AsName(name) => match self.items.get(name) {
                Some(Item::Integer(dim) | Item::Count { size: dim, .. }) => Ok(dim.clone()),
                Some(Item::Number(_)) => {
                    fail!(Unsupported, "`{name}` is computed from data, but is needed as a size or index")
                }
                _ => fail!(Format, "`{name}` is no integer"),
            },
            _ => fail!(Format, "a symbolic integer that is none"),
        }
    }

    pub(super) fn try_dim(&self, name: &str) -> Result<Option<Dim>> {
        match self.argument(name) {
            None => Ok(None),
            Some(Argument::AsInt(value)) => Ok(Some(Dim::from_i64(*value))),
            Some(Argument::AsBool(value)) => Ok(Some(Dim::from_i64((*value).into()))),
            Some(Argument::AsSymInt(argument)) => self.symbol(argument).map(Some),
            Some(_) => self.wrong(name),
        }
    }

    pub(super) fn dim(&self, name: &str) -> Result<Dim> {
        match self.try_dim(name)? {
            Some(dim) => Ok(dim),
            None => self.wrong(name),
        }
    }

    pub(super) fn dims(&self, name: &str) -> Result<Vec<Dim>> {
        match self.argument(name) {
            Some(Argument::AsInts(values)) => Ok(values.iter().map(|&value| Dim::from_i64(value)).collect()),
            Some(Argument::AsSymInts(values)) => values.iter().map(|value| self.symbol(value)).collect(),
            Some(Argument::AsInt(_) | Argument::AsSymInt(_)) => Ok(vec![self.dim(name)?]),
            Some(Argument::AsTensors(list)) if list.is_empty() => Ok(Vec::new()),
            _ => self.wrong(name),
        }
    }

    pub(super) fn integer(&self, name: &str, default: i64) -> Result<i64> {
        match self.try_dim(name)? {
            None => Ok(default),
            Some(dim) => match dim.constant() {
                Some(value) => Ok(value),
                None => fail!(Unsupported, "argument `{name}` is {dim}, which must be known beforehand"),
            },
        }
    }

    pub(super) fn integers(&self, name: &str, default: &[i64]) -> Result<Vec<i64>> {
        if !self.has(name) {
            return Ok(default.to_vec());
        }
        let known = |dim: Dim| match dim.constant() {
            Some(value) => Ok(value),
            None => fail!(Unsupported, "argument `{name}` holds {dim}, which must be known beforehand"),
        };
        self.dims(name)?.into_iter().map(known).collect()
    }

    /// Integers that are not negative, one for each of `count` dimensions.
    pub(super) fn sizes(&self, name: &str, count: usize, default: usize) -> Result<Vec<usize>> {
        let values = self.integers(name, &[])?;
        let values: Option<Vec<usize>> = values.into_iter().map(|value| usize::try_from(value).ok()).collect();
        match values {
            Some(values) if values.is_empty() => Ok(vec![default; count]),
            Some(values) if values.len() == 1 => Ok(vec![values[0]; count]),
            Some(values) if values.len() == count => Ok(values),
            _ => fail!(Format, "argument `{name}` does not fit {count} dimensions"),
        }
    }

    /// Positions of dimensions, negative ones counted from the end.
    pub(super) fn axes(&self, name: &str, rank: usize) -> Result<Vec<usize>> {
        let rank = rank.saturating_sub(self.hidden());
        self.integers(name, &[])?.into_iter().map(|axis| wrap(axis, rank)).collect()
    }

    pub(super) fn axis(&self, name: &str, default: i64, rank: usize) -> Result<usize> {
        wrap(self.integer(name, default)?, rank.saturating_sub(self.hidden()))
    }

    pub(super) fn float(&self, name: &str, default: f64) -> Result<f64> {
        match self.argument(name) {
            None => Ok(default),
            Some(Argument::AsFloat(value)) => Ok(value.value()),
            Some(Argument::AsSymFloat(SymArgument::AsFloat(value))) => Ok(*value),
            Some(Argument::AsSymFloat(_)) => match self.value(name).map(|value| value.real()) {
                Some(real) => match real.known() {
                    Some(value) => Ok(value),
                    None => fail!(Unsupported, "argument `{name}` is {real}, which must be known beforehand"),
                },
                None => self.wrong(name),
            },
            Some(Argument::AsInt(_) | Argument::AsBool(_) | Argument::AsSymInt(_)) => Ok(self.integer(name, 0)? as f64),
            Some(_) => self.wrong(name),
        }
    }

    pub(super) fn floats(&self, name: &str) -> Result<Vec<f64>> {
        match self.argument(name) {
            Some(Argument::AsFloats(values)) => Ok(values.iter().map(schema::Number::value).collect()),
            Some(Argument::AsInts(values)) => Ok(values.iter().map(|&value| value as f64).collect()),
            None => Ok(Vec::new()),
            Some(_) => self.wrong(name),
        }
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.argument(name) {
            None => Ok(default),
            Some(Argument::AsBool(value) | Argument::AsSymBool(SymArgument::AsBool(value))) => Ok(*value),
            Some(Argument::AsInt(value)) => Ok(*value != 0),
            Some(_) => self.wrong(name),
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.argument(name) {
            Some(Argument::AsString(text)) => Some(text),
            _ => None,
        }
    }

    /// The element type that argument `name` names, if it is one that is computed with.
    pub(super) fn scalar_type(&self, name: &str) -> Option<DType> {
        match self.argument(name) {
            Some(Argument::AsScalarType(code)) => dtype_of(*code).ok(),
            _ => None,
        }
    }

    /// A tensor or a number.
    pub(super) fn operand(&self, builder: &mut Builder, name: &str) -> Result<Operand> {
        if let Some(tensor) = self.try_tensor(name)? {
            return Ok(Operand::Tensor(tensor));
        }
        match self.argument(name) {
            Some(Argument::AsInt(value)) => Ok(Operand::Number { value: *value as f64, integer: true }),
            Some(Argument::AsBool(value)) => Ok(Operand::Number { value: f64::from(u8::from(*value)), integer: true }),
            Some(Argument::AsSymInt(_) | Argument::AsSymFloat(_) | Argument::AsSymBool(_)) => match self.value(name) {
                Some(Value::Integer(dim)) => builder.integer(&dim).map(Operand::Tensor),
                Some(Value::Real(real)) => match real.known() {
                    Some(value) => Ok(Operand::Number { value, integer: false }),
                    None => builder.real(&real).map(Operand::Tensor),
                },
                Some(Value::Truth(condition)) => builder.truth(&condition).map(Operand::Tensor),
                None => self.wrong(name),
            },
            _ => Ok(Operand::Number { value: self.float(name, f64::NAN)?, integer: false }),
        }
    }

    /// An operand as a tensor of type `dtype`.
    pub(super) fn operand_as(&self, builder: &mut Builder, name: &str, dtype: DType) -> Result<Tensor> {
        match self.operand(builder, name)? {
            Operand::Tensor(tensor) => builder.cast(&tensor, dtype),
            Operand::Number { value, .. } => match self.argument(name) {
                // Doubles do not hold all integers.
                Some(Argument::AsInt(exact)) if dtype == DType::I64 => {
                    let value = builder.graph.constant(NDArray::scalar(*exact));
                    Ok(builder.plain(value))
                }
                _ => builder.number(value, dtype),
            },
        }
    }

    /// The names of the tensors that the node yields.
    pub(super) fn output_names(&self) -> Vec<Option<&Arc<str>>> {
        output_names(self.node)
    }

    fn meta(&self, index: usize) -> Result<&schema::TensorMeta> {
        let name = self.output_names().into_iter().nth(index).flatten();
        match name.and_then(|name| self.graph.tensor_values.get(name)) {
            Some(meta) => Ok(meta),
            None => fail!(Format, "the program does not say what result {index} is"),
        }
    }

    /// The symbol that result `index`, an integer, is called by in sizes.
    pub(super) fn symbol_of(&self, index: usize) -> Option<Dim> {
        let name = self.output_names().into_iter().nth(index).flatten()?;
        dim_of(self.graph.sym_int_values.get(name)?).ok()
    }

    /// The strides of argument `name` in PyTorch's memory, if they are known.
    pub(super) fn strides(&self, name: &str) -> Option<Vec<i64>> {
        let Some(Argument::AsTensor(tensor)) = self.argument(name) else { return None };
        let strides = &self.graph.tensor_values.get(&tensor.name)?.strides;
        strides.iter().map(|stride| dim_of(stride).ok()?.constant()).collect()
    }

    /// Where in its memory argument `name` begins; 0 if that is not known beforehand.
    pub(super) fn offset(&self, name: &str) -> i64 {
        self.symbolic_offset(name).and_then(|offset| offset.constant()).unwrap_or(0)
    }

    /// Where in its memory argument `name` begins.
    pub(super) fn symbolic_offset(&self, name: &str) -> Option<Dim> {
        let Some(Argument::AsTensor(tensor)) = self.argument(name) else { return None };
        dim_of(self.graph.tensor_values.get(&tensor.name)?.storage_offset.as_ref()?).ok()
    }

    /// The element type of result `index`.
    pub(super) fn out_dtype(&self, index: usize) -> Result<DType> {
        dtype_of(self.meta(index)?.dtype)
    }

    /// The element type in which result `index` is told to the caller.
    pub(super) fn out_told(&self, index: usize) -> Result<DType> {
        told_of(self.meta(index)?.dtype)
    }

    /// The element type in which argument `name` is told to the caller.
    pub(super) fn told(&self, name: &str) -> Result<DType> {
        match self.argument(name) {
            Some(Argument::AsTensor(tensor)) => match self.graph.tensor_values.get(&tensor.name) {
                Some(meta) => told_of(meta.dtype),
                None => fail!(Format, "the program does not say what `{}` is", tensor.name),
            },
            _ => self.wrong(name),
        }
    }

    /// True if result `index` is complex.
    pub(super) fn out_complex(&self, index: usize) -> Result<bool> {
        Ok(is_complex(self.meta(index)?.dtype))
    }

    /// The 16-bit type that a wider argument `self` is converted to, if it is.
    pub(super) fn narrows(&self) -> Result<Option<DType>> {
        let Some(Argument::AsTensor(tensor)) = self.argument("self") else { return Ok(None) };
        let from = self.graph.tensor_values.get(&tensor.name).map(|meta| meta.dtype);
        let to = self.meta(0)?.dtype;
        Ok(match to {
            _ if from == Some(to) => None,
            FLOAT8_E4M3 | FLOAT8_E5M2 => fail!(Unsupported, "rounding to numbers of 8 bits in the call"),
            HALF => Some(DType::F16),
            BFLOAT16 => Some(DType::BF16),
            _ => None,
        })
    }

    /// The name of the first argument, if it is a tensor.
    pub(super) fn first_name(&self) -> Option<&Arc<str>> {
        match self.node.inputs.first().map(|input| &input.arg) {
            Some(Argument::AsTensor(tensor)) => Some(&tensor.name),
            _ => None,
        }
    }

    /// An argument that is a complex number.
    pub(super) fn complex_number(&self, name: &str) -> Option<[f64; 2]> {
        match self.argument(name) {
            Some(Argument::AsComplex(number)) => Some([number.real, number.imag]),
            _ => None,
        }
    }

    /// True if argument `name` is a complex tensor, or has one.
    pub(super) fn is_complex(&self, name: &str) -> bool {
        self.are_complex(name).contains(&true)
    }

    /// Of each tensor of argument `name` whether it is complex.
    pub(super) fn are_complex(&self, name: &str) -> Vec<bool> {
        let complex = |tensor: &schema::Name| {
            self.graph.tensor_values.get(&tensor.name).is_some_and(|meta| is_complex(meta.dtype))
        };
        match self.argument(name) {
            Some(Argument::AsTensor(tensor)) => vec![complex(tensor)],
            Some(Argument::AsTensors(tensors)) => tensors.iter().map(complex).collect(),
            _ => Vec::new(),
        }
    }

    /// The shape of result `index`, with a last dimension for the parts of complex numbers.
    pub(super) fn out_shape(&self, index: usize) -> Result<Vec<Dim>> {
        let meta = self.meta(index)?;
        let mut shape = meta.sizes.iter().map(dim_of).collect::<Result<Vec<_>>>()?;
        if is_complex(meta.dtype) {
            shape.push(2.into());
        }
        Ok(shape)
    }

    /// The size of dimension `axis` of result `index`.
    pub(super) fn out_dim(&self, index: usize, axis: usize) -> Result<Dim> {
        match self.out_shape(index)?.into_iter().nth(axis) {
            Some(dim) => Ok(dim),
            None => fail!(Format, "the program says that result {index} has no dimension {axis}"),
        }
    }

    /// The sizes of the last `count` dimensions of result `index`.
    pub(super) fn out_tail(&self, index: usize, count: usize) -> Result<Vec<Dim>> {
        let shape = self.out_shape(index)?;
        match shape.len().checked_sub(count) {
            Some(start) => Ok(shape[start..].to_vec()),
            None => fail!(Format, "the program says that result {index} has less than {count} dimensions"),
        }
    }

    /// Dimensions of the first argument that the program does not know of: one, if it is complex.
    fn hidden(&self) -> usize {
        match self.node.inputs.first() {
            Some(first) if self.is_complex(&first.name) => 1,
            _ => 0,
        }
    }

    /// True if an argument is complex.
    pub(super) fn any_complex(&self) -> bool {
        self.node.inputs.iter().any(|input| self.is_complex(&input.name))
    }

    /// The type of argument `dtype`, or else of the result.
    pub(super) fn cast_out(&self, builder: &mut Builder, x: &Tensor) -> Result<Tensor> {
        let dtype = self.out_dtype(0)?;
        builder.cast(x, dtype)
    }

    /// A tensor in the type in which numbers of its type are computed.
    pub(super) fn wide_tensor(&self, builder: &mut Builder, name: &str) -> Result<Tensor> {
        let x = self.tensor(name)?;
        builder.cast(&x, wide(builder.dtype(&x)))
    }

    /// A tensor as F32.
    pub(super) fn float_tensor(&self, builder: &mut Builder, name: &str) -> Result<Tensor> {
        let x = self.tensor(name)?;
        builder.cast(&x, DType::F32)
    }

    /// `tensor * value`; integers are multiplied by whole numbers.
    pub(super) fn scale(builder: &mut Builder, x: &Tensor, factor: f64) -> Result<Tensor> {
        if factor == 1.0 {
            Ok(x.clone())
        } else if !builder.dtype(x).is_float() {
            let factor = builder.number(factor, builder.dtype(x))?;
            builder.binary(Binary::Mul, x, &factor)
        } else {
            builder.unary(Unary::Affine { scale: factor as f32, offset: 0.0 }, x)
        }
    }
}

/// A position among `rank` dimensions, negative ones counted from the end.
pub(super) fn wrap(axis: i64, rank: usize) -> Result<usize> {
    // A scalar has one dimension for the purpose of naming it.
    let size = rank.max(1) as i64;
    match usize::try_from(if axis < 0 { axis.saturating_add(size) } else { axis }) {
        Ok(position) if (position as i64) < size => Ok(position),
        _ => fail!(Shape, "dimension {axis} of {rank}"),
    }
}

/// The names of the tensors and numbers that a node yields, lists flattened.
pub(super) fn output_names(node: &schema::Node) -> Vec<Option<&Arc<str>>> {
    let mut names = Vec::new();
    for output in &node.outputs {
        match output {
            Argument::AsTensor(tensor) => names.push(Some(&tensor.name)),
            Argument::AsTensors(tensors) => names.extend(tensors.iter().map(|tensor| Some(&tensor.name))),
            Argument::AsOptionalTensor(OptionalTensor::AsTensor(tensor)) => names.push(Some(&tensor.name)),
            Argument::AsOptionalTensors(tensors) => names.extend(tensors.iter().map(|tensor| match tensor {
                OptionalTensor::AsTensor(tensor) => Some(&tensor.name),
                OptionalTensor::AsNone(_) => None,
            })),
            Argument::AsSymInt(SymArgument::AsName(name))
            | Argument::AsSymFloat(SymArgument::AsName(name))
            | Argument::AsSymBool(SymArgument::AsName(name)) => names.push(Some(name)),
            _ => names.push(None),
        }
    }
    names
}
