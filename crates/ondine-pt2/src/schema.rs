//! The program of an archive as `torch.export` writes it, in JSON: `torch/_export/serde/schema.py`, version 8.
#![expect(dead_code, reason = "variants name all that the format can hold, though some contents are never read")]
#![expect(clippy::enum_variant_names, reason = "the names are the format's")]

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

/// The schema's major version that is read; another one means another format.
pub(super) const MAJOR: u32 = 8;

/// `models/NAME.json`
#[derive(Deserialize)]
pub(super) struct Program {
    pub(super) graph_module: GraphModule,
    pub(super) schema_version: Version,
    #[serde(default)]
    pub(super) range_constraints: BTreeMap<String, Range>,
    #[serde(default)]
    pub(super) torch_version: String,
    /// What must hold of the sizes of inputs, in Python.
    #[serde(default)]
    pub(super) guards_code: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
}

#[derive(Deserialize)]
pub(super) struct Range {
    pub(super) min_val: Option<i64>,
    pub(super) max_val: Option<i64>,
}

#[derive(Deserialize)]
pub(super) struct GraphModule {
    pub(super) graph: Graph,
    pub(super) signature: Signature,
    #[serde(default)]
    pub(super) module_call_graph: Vec<ModuleCall>,
}

/// How a module is called: the program itself is the one without a name.
#[derive(Deserialize)]
pub(super) struct ModuleCall {
    pub(super) fqn: String,
    pub(super) signature: Option<CallSignature>,
}

#[derive(Deserialize)]
pub(super) struct CallSignature {
    /// What the results are put together to, as JSON.
    #[serde(default)]
    pub(super) out_spec: String,
}

#[derive(Deserialize)]
pub(super) struct Signature {
    pub(super) input_specs: Vec<InputSpec>,
    pub(super) output_specs: Vec<OutputSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum InputSpec {
    UserInput { arg: Argument },
    Parameter { arg: Name, parameter_name: String },
    Buffer { arg: Name, buffer_name: String },
    TensorConstant { arg: Name, tensor_constant_name: String },
    CustomObj { custom_obj_name: String },
    ConstantInput { name: String, value: Constant },
    Token {},
}

/// The value that an argument had when the program was exported, and must have in every call.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "snake_case")]
pub(super) enum Constant {
    AsNone(bool),
    AsInt(i64),
    AsFloat(Number),
    AsBool(bool),
    AsString(String),
    #[serde(untagged)]
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OutputSpec {
    UserOutput { arg: Argument },
    LossOutput { arg: Name },
    BufferMutation { arg: Name, buffer_name: String },
    ParameterMutation { arg: Name, parameter_name: String },
    UserInputMutation { arg: Name, user_input_name: String },
    GradientToParameter {},
    GradientToUserInput {},
    Token {},
}

#[derive(Deserialize, Clone, Debug)]
pub(super) struct Name {
    pub(super) name: Arc<str>,
}

#[derive(Deserialize, Debug)]
pub(super) struct Graph {
    pub(super) inputs: Vec<Argument>,
    pub(super) outputs: Vec<Argument>,
    pub(super) nodes: Vec<Node>,
    pub(super) tensor_values: BTreeMap<Arc<str>, TensorMeta>,
    #[serde(default)]
    pub(super) sym_int_values: BTreeMap<Arc<str>, SymInt>,
}

#[derive(Deserialize, Debug)]
pub(super) struct Node {
    pub(super) target: String,
    pub(super) inputs: Vec<NamedArgument>,
    pub(super) outputs: Vec<Argument>,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) name: Option<String>,
}

#[derive(Deserialize, Debug)]
pub(super) struct NamedArgument {
    pub(super) name: String,
    pub(super) arg: Argument,
}

#[derive(Deserialize, Clone, Debug)]
pub(super) struct TensorMeta {
    pub(super) dtype: u32,
    pub(super) sizes: Vec<SymInt>,
    #[serde(default)]
    pub(super) strides: Vec<SymInt>,
    pub(super) storage_offset: Option<SymInt>,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "snake_case")]
pub(super) enum SymInt {
    AsInt(i64),
    AsExpr(Expr),
}

/// A SymPy expression as SymPy's `srepr` prints it.
#[derive(Deserialize, Clone, Debug)]
pub(super) struct Expr {
    pub(super) expr_str: String,
    /// The value that it had for the exporter's example.
    pub(super) hint: Option<Hint>,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "snake_case")]
pub(super) enum Hint {
    AsInt(i64),
    AsBool(bool),
    AsFloat(f64),
}

/// A symbolic number that is a node's result, or one that is known.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "snake_case")]
pub(super) enum SymArgument {
    AsName(Arc<str>),
    AsInt(i64),
    AsFloat(f64),
    AsBool(bool),
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "snake_case")]
pub(super) enum OptionalTensor {
    AsTensor(Name),
    AsNone(bool),
}

#[derive(Deserialize, Debug)]
pub(super) struct Subgraph {
    pub(super) name: String,
    pub(super) graph: Box<Graph>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(super) enum Argument {
    AsNone(bool),
    AsTensor(Name),
    AsTensors(Vec<Name>),
    AsOptionalTensor(OptionalTensor),
    AsOptionalTensors(Vec<OptionalTensor>),
    AsInt(i64),
    AsInts(Vec<i64>),
    AsFloat(Number),
    AsFloats(Vec<Number>),
    AsBool(bool),
    AsBools(Vec<bool>),
    AsString(String),
    AsStrings(Vec<String>),
    AsSymInt(SymArgument),
    AsSymInts(Vec<SymArgument>),
    AsSymFloat(SymArgument),
    AsSymBool(SymArgument),
    AsScalarType(u32),
    AsMemoryFormat(u32),
    AsLayout(u32),
    AsDevice(serde::de::IgnoredAny),
    AsComplex(Complex),
    AsGraph(Subgraph),
    AsCustomObj(Name),
    AsOperator(String),
    #[serde(untagged)]
    Other(BTreeMap<String, serde::de::IgnoredAny>),
}

#[derive(Deserialize, Clone, Copy, Debug)]
pub(super) struct Complex {
    pub(super) real: f64,
    pub(super) imag: f64,
}

/// A float, which JSON cannot always hold: infinities and NaN come as texts.
#[derive(Deserialize, Clone, Debug)]
#[serde(untagged)]
pub(super) enum Number {
    Plain(f64),
    Text(String),
}

impl Number {
    pub(super) fn value(&self) -> f64 {
        match self {
            Self::Plain(value) => *value,
            Self::Text(text) => match text.as_str() {
                "Infinity" | "inf" => f64::INFINITY,
                "-Infinity" | "-inf" => f64::NEG_INFINITY,
                _ => f64::NAN,
            },
        }
    }
}

/// `model_weights_config.json` and `model_constants_config.json`
#[derive(Deserialize)]
pub(super) struct Payloads {
    pub(super) config: BTreeMap<String, Payload>,
}

#[derive(Deserialize)]
pub(super) struct Payload {
    pub(super) path_name: String,
    #[serde(default)]
    pub(super) use_pickle: bool,
    pub(super) tensor_meta: Option<TensorMeta>,
}
