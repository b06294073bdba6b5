//! Python's pickles as data: a small machine that builds values and runs nothing.
//!
//! A pickle is a program for a stack machine (PEP 307, PEP 3154). Of its instructions those are known that PyTorch
//! writes; what a pickle names to be called is looked up among a few names that mean tensors and dictionaries. Other
//! names that checkpoints are known to hold beside their weights stand for nothing, and any further one is refused.

use std::sync::Arc;

use ondine_graph::{Result, fail};

/// The number of a value among those of a pickle: values may be shared, and hold each other.
pub(super) type Id = usize;

/// A value of a pickle.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Of no concern here: what stands beside the weights.
    Other,
    Int(i64),
    Text(Arc<str>),
    /// A class or function by module and name.
    Global(Arc<str>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// What a persistent id stands for.
    Persistent(Id),
    Tensor(Tensor),
}

/// A tensor as PyTorch rebuilds it: a view of a storage.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    /// The persistent id of its storage.
    pub(super) storage: Id,
    /// In elements, as the strides.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
    /// The name of the type of its elements, if its storage has none.
    pub(super) dtype: Option<Id>,
}

/// The values of a pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    /// The value that the pickle stands for.
    pub(super) root: Id,
    /// Bytes of the pickle.
    pub(super) len: usize,
}

impl Pickle {
    /// Runs the pickle at the beginning of `bytes`.
    ///
    /// # Errors
    /// If it is cut, holds an instruction that is not known, or names what is no part of a checkpoint.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut machine =
            Machine { bytes, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: Vec::new() };
        let root = machine.run()?;
        Ok(Self { values: machine.values, root, len: machine.at })
    }

    pub(super) fn value(&self, id: Id) -> &Value {
        self.values.get(id).unwrap_or(&Value::Other)
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.value(id) {
            Value::Text(text) | Value::Global(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn int(&self, id: Id) -> Option<i64> {
        match self.value(id) {
            Value::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// The members of a list or tuple.
    pub(super) fn members(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::List(members) | Value::Tuple(members) => Some(members),
            _ => None,
        }
    }
}

/// Modules whose classes and functions may be named beside weights: they stand for nothing.
const BYSTANDERS: &[&str] = &[
    "argparse.",
    "_codecs.encode",
    "collections.",
    "copyreg._reconstructor",
    "datetime.",
    "lightning.",
    "lightning_fabric.",
    "ldm.",
    "numpy.",
    "omegaconf.",
    "pathlib.",
    "pytorch_lightning.",
    "torch.",
    "typing.",
    "uuid.",
];

/// What of Python itself may be named: types without effects.
const BUILTINS: &[&str] = &[
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "object",
    "range",
    "set",
    "slice",
    "str",
    "tuple",
    "type",
];

/// Refuses a name that is no part of a checkpoint.
fn check_name(name: &str) -> Result<()> {
    let builtin = ["builtins.", "__builtin__."].iter().find_map(|module| name.strip_prefix(module));
    let known = match builtin {
        Some(name) => BUILTINS.contains(&name),
        None => BYSTANDERS.iter().any(|start| name.starts_with(start)),
    };
    // These run code or fetch files when they are called.
    let acts = [
        "torch.hub.",
        "torch.jit.",
        "torch.load",
        "torch.utils.cpp_extension",
        "torch.ops.",
        "numpy.load",
        "numpy.f2py",
        "numpy.distutils",
        "numpy.testing",
    ];
    if !known || acts.iter().any(|start| name.starts_with(start)) {
        fail!(
            Unsupported,
            "the pickle asks for `{name}`, which is no part of a model's weights; nothing of it was run. Do not open this \
             file with other programs unless you trust where it is from"
        );
    }
    Ok(())
}

/// The most dimensions of a tensor.
const MAX_RANK: usize = 16;

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: Vec<Option<Id>>,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Id> {
        loop {
            let at = self.at;
            let [op] = self.take::<1>()?;
            match op {
                b'.' => return self.pop(),
                op => self.step(op, at)?,
            }
        }
    }

    fn step(&mut self, op: u8, at: usize) -> Result<()> {
        if self.literal(op)? || self.container(op)? || self.memory(op)? || self.object(op, at)? {
            return Ok(());
        }
        match op {
            // Protocol and frame: how the rest is cut.
            0x80 => _ = self.take::<1>()?,
            0x95 => _ = self.take::<8>()?,
            b'(' => self.marks.push(self.stack.len()),
            b'0' => _ = self.pop()?,
            b'1' => _ = self.pop_mark()?,
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            op => fail!(Unsupported, "byte {at} of the pickle is {op:#04x}, an instruction that no checkpoint needs"),
        }
        Ok(())
    }

    /// Pushes a number, a text or nothing; false if the instruction is none of these.
    fn literal(&mut self, op: u8) -> Result<bool> {
        match op {
            b'N' | 0x88 | 0x89 => self.push(Value::Other),
            b'J' => {
                let value = i32::from_le_bytes(self.take()?);
                self.push(Value::Int(value.into()));
            }
            b'K' => {
                let [value] = self.take()?;
                self.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.take()?);
                self.push(Value::Int(value.into()));
            }
            0x8a => {
                let [len] = self.take()?;
                let value = integer(self.slice(len.into())?);
                self.push(value);
            }
            b'G' => {
                self.take::<8>()?;
                self.push(Value::Other);
            }
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            b'B' => self.skip_bytes(4)?,
            b'C' => self.skip_bytes(1)?,
            b'U' => self.text(1)?,
            b'T' => self.text(4)?,
            0x8e => self.skip_bytes(8)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Makes and fills lists, tuples and dictionaries; false if the instruction is none of these.
    fn container(&mut self, op: u8) -> Result<bool> {
        match op {
            b'}' => self.push(Value::Dict(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            0x8f => self.push(Value::Other),
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' => {
                let members = self.pop_mark()?;
                self.push(Value::Tuple(members));
            }
            b'l' => {
                let members = self.pop_mark()?;
                self.push(Value::List(members));
            }
            b'd' => {
                let members = self.pop_mark()?;
                self.push(Value::Dict(pairs(&members)));
            }
            0x85..=0x87 => {
                let count = usize::from(op - 0x84);
                let from = self.room(count)?;
                let members = self.stack.split_off(from);
                self.push(Value::Tuple(members));
            }
            b'a' => {
                let member = self.pop()?;
                self.append(&[member])?;
            }
            b'e' => {
                let members = self.pop_mark()?;
                self.append(&members)?;
            }
            // Members of a set, which is of no concern.
            0x90 => _ = self.pop_mark()?,
            b's' => {
                let from = self.room(2)?;
                let members = self.stack.split_off(from);
                self.insert(&members)?;
            }
            b'u' => {
                let members = self.pop_mark()?;
                self.insert(&members)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Remembers and recalls values; false if the instruction is none of these.
    fn memory(&mut self, op: u8) -> Result<bool> {
        match op {
            b'q' => {
                let [index] = self.take()?;
                self.remember(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.take()?);
                self.remember(index as usize)?;
            }
            0x94 => self.remember(self.memo.len())?,
            b'h' => {
                let [index] = self.take()?;
                self.recall(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.take()?);
                self.recall(index as usize)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Names and calls; false if the instruction is none of these.
    fn object(&mut self, op: u8, at: usize) -> Result<bool> {
        match op {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let text = |id: Id| match self.values.get(id) {
                    Some(Value::Text(text)) => Some(text.to_string()),
                    _ => None,
                };
                let (Some(module), Some(name)) = (text(module), text(name)) else {
                    fail!(Format, "byte {at} of the pickle names something by what is no text");
                };
                self.global(&module, &name)?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            b'R' | 0x81 => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                let value = self.call(callee, arguments)?;
                self.push(value);
            }
            0x92 => {
                let (_, arguments, callee) = (self.pop()?, self.pop()?, self.pop()?);
                let value = self.call(callee, arguments)?;
                self.push(value);
            }
            b'b' => {
                let state = self.pop()?;
                self.build(state)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn slice(&mut self, len: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            fail!(Format, "the pickle is cut off at byte {}; copy the file again", self.bytes.len());
        };
        let slice = &self.bytes[self.at..end];
        self.at = end;
        Ok(slice)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut taken = [0; N];
        taken.copy_from_slice(self.slice(N)?);
        Ok(taken)
    }

    /// The bytes whose number stands before them in so many bytes.
    fn counted(&mut self, digits: usize) -> Result<&[u8]> {
        let mut number = [0; 8];
        number[..digits].copy_from_slice(self.slice(digits)?);
        let len = usize::try_from(u64::from_le_bytes(number)).unwrap_or(usize::MAX);
        self.slice(len)
    }

    fn text(&mut self, digits: usize) -> Result<()> {
        let text: Arc<str> = String::from_utf8_lossy(self.counted(digits)?).into();
        self.push(Value::Text(text));
        Ok(())
    }

    fn skip_bytes(&mut self, digits: usize) -> Result<()> {
        self.counted(digits)?;
        self.push(Value::Other);
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        let line = String::from_utf8_lossy(self.slice(len)?).into_owned();
        self.take::<1>()?;
        Ok(line)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    /// The height of the stack below so many values, none of which is below the last mark.
    fn room(&self, count: usize) -> Result<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count) {
            Some(height) if height >= floor => Ok(height),
            _ => fail!(Format, "the pickle takes more than there is at byte {}; it is damaged", self.at),
        }
    }

    fn pop(&mut self) -> Result<Id> {
        self.room(1)?;
        self.stack.pop().map_or_else(|| fail!(Format, "the pickle ends with nothing"), Ok)
    }

    fn top(&self) -> Result<Id> {
        self.room(1).map(|height| self.stack[height])
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        match self.marks.pop() {
            Some(height) if height <= self.stack.len() => Ok(self.stack.split_off(height)),
            _ => fail!(Format, "the pickle has no mark at byte {}; it is damaged", self.at),
        }
    }

    fn append(&mut self, members: &[Id]) -> Result<()> {
        let top = self.top()?;
        if let Value::List(list) = &mut self.values[top] {
            list.extend_from_slice(members);
        }
        Ok(())
    }

    fn insert(&mut self, members: &[Id]) -> Result<()> {
        let top = self.top()?;
        if let Value::Dict(dict) = &mut self.values[top] {
            dict.extend(pairs(members));
        }
        Ok(())
    }

    /// The state of an object: the parameters of a dictionary of these, or a dictionary's notes on itself and the like,
    /// which are of no concern.
    fn build(&mut self, state: Id) -> Result<()> {
        let Some(Value::Dict(state)) = self.values.get(state) else { return Ok(()) };
        let is_it = |id: &Id| matches!(self.values.get(*id), Some(Value::Text(text)) if &**text == "_parameters");
        let found = state.iter().find(|(key, _)| is_it(key)).and_then(|(_, value)| self.values.get(*value));
        let Some(Value::Dict(parameters)) = found else { return Ok(()) };
        let parameters = parameters.clone();
        let top = self.top()?;
        if let Value::Dict(dict) = &mut self.values[top] {
            dict.extend(parameters);
        }
        Ok(())
    }

    fn remember(&mut self, index: usize) -> Result<()> {
        let top = self.top()?;
        if index > self.bytes.len() {
            fail!(Format, "the pickle remembers more than it holds; it is damaged");
        }
        if self.memo.len() <= index {
            self.memo.resize(index + 1, None);
        }
        self.memo[index] = Some(top);
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Result<()> {
        match self.memo.get(index) {
            Some(Some(id)) => self.stack.push(*id),
            _ => fail!(Format, "the pickle recalls what it did not remember; it is damaged"),
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let name = format!("{module}.{name}");
        check_name(&name)?;
        self.push(Value::Global(name.into()));
        Ok(())
    }

    /// What a call of a known name yields; of any other that may be named, nothing of concern.
    fn call(&self, callee: Id, arguments: Id) -> Result<Value> {
        let name = match self.values.get(callee) {
            Some(Value::Global(name)) => &**name,
            _ => "",
        };
        let Some(Value::Tuple(arguments)) = self.values.get(arguments) else { return Ok(Value::Other) };
        match (name, arguments.as_slice()) {
            (
                "collections.OrderedDict"
                | "collections.defaultdict"
                | "builtins.dict"
                | "torch.nn.modules.container.ParameterDict",
                _,
            ) => Ok(Value::Dict(Vec::new())),
            (
                "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor",
                [storage, offset, shape, strides, ..],
            ) => self.tensor(*storage, *offset, *shape, *strides).map(Value::Tensor),
            // Types that came after storages had types: of 8 bits, and integers without a sign.
            ("torch._utils._rebuild_tensor_v3", [storage, offset, shape, strides, _, _, dtype, ..]) => {
                let tensor = self.tensor(*storage, *offset, *shape, *strides)?;
                Ok(Value::Tensor(Tensor { dtype: Some(*dtype), ..tensor }))
            }
            ("torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", [tensor, ..]) => {
                Ok(self.values.get(*tensor).cloned().unwrap_or(Value::Other))
            }
            // A subclass of a tensor, rebuilt by what rebuilds the tensor; no function is the same one again.
            ("torch._tensor._rebuild_from_type_v2", [function, _, arguments, ..]) if !matches!(self.values.get(*function), Some(Value::Global(inner)) if &**inner == name) => {
                self.call(*function, *arguments)
            }
            _ => Ok(Value::Other),
        }
    }

    fn tensor(&self, storage: Id, offset: Id, shape: Id, strides: Id) -> Result<Tensor> {
        let size = |id: &Id| match self.values.get(*id) {
            Some(Value::Int(size)) => usize::try_from(*size).ok(),
            _ => None,
        };
        let sizes = |id: Id| match self.values.get(id) {
            Some(Value::Tuple(sizes)) if sizes.len() <= MAX_RANK => sizes.iter().map(size).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        match (size(&offset), sizes(shape), sizes(strides)) {
            (Some(offset), Some(shape), Some(strides)) if shape.len() == strides.len() => {
                Ok(Tensor { storage, offset, shape, strides, dtype: None })
            }
            _ => fail!(Format, "the pickle holds a tensor without shape; it is damaged"),
        }
    }
}

fn pairs(members: &[Id]) -> Vec<(Id, Id)> {
    members.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

/// A whole number of any length, if it is one that fits.
fn integer(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Other;
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_values_grow_together() {
        // {'a': d, 'b': d} where d is filled after it was remembered.
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00a}q\x01X\x01\x00\x00\x00kK\x07sX\x01\x00\x00\x00bh\x01u.";
        let pickle = Pickle::read(bytes).unwrap();
        let Value::Dict(members) = pickle.value(pickle.root) else { panic!("a dictionary") };
        assert_eq!(members.len(), 2);
        for (_, inner) in members {
            let Value::Dict(inner) = pickle.value(*inner) else { panic!("a dictionary") };
            assert_eq!(inner.iter().map(|(_, value)| pickle.int(*value)).collect::<Vec<_>>(), [Some(7)]);
        }
        assert_eq!(pickle.len, bytes.len());
    }

    #[test]
    fn names_that_act_are_refused_before_they_are_called() {
        for name in [
            "os\nsystem",
            "posix\nsystem",
            "builtins\neval",
            "builtins\ngetattr",
            "__builtin__\nexec",
            "torch.hub\nload",
            "subprocess\nPopen",
            "nt\nsystem",
        ] {
            let text = format!("c{name}\n(X\x02\x00\x00\x00lstR.");
            let error = Pickle::read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(&name.replace('\n', ".")) && error.contains("nothing of it was run"), "{error}");
        }
        assert!(Pickle::read(b"cpytorch_lightning.callbacks\nModelCheckpoint\n)R.").is_ok());
    }

    #[test]
    fn cut_and_damaged_pickles_are_errors() {
        let whole = b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x07u.";
        for len in 0..whole.len() {
            assert!(Pickle::read(&whole[..len]).is_err(), "{len} bytes");
        }
        for text in [
            &b"."[..],
            b"t.",
            b"(.",
            b"h\x05.",
            b"(0.",
            b"(K\x01(s.",
            b"r\xff\xff\xff\xff.",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
            b"\xff.",
        ] {
            assert!(Pickle::read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn integers_of_any_length() {
        for (bytes, value) in [(&[][..], Some(0)), (&[0xff], Some(-1)), (&[0xff, 0], Some(255)), (&[0; 9], None)] {
            assert_eq!(matches!(integer(bytes), Value::Int(int) if Some(int) == value), value.is_some());
        }
    }
}
