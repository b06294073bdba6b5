//! Keys and values in the type that a cache holds them in, which may be another than that of the queries.

use crate::{
    arch::{dot::WeightType, half::bf16_value, vector::Vector},
    gemm::operand::{Values, check_rows},
};

/// Keys or values of an attention.
#[derive(Clone, Copy, Debug)]
pub enum Cached<'a> {
    /// Numbers.
    Values(Values<'a>),
    /// Codes `q` of the numbers `scale * q`, with a scale for each row of a head or for more of them.
    Codes(&'a [i8], CodeScales<'a>),
}

/// The scales of codes.
#[derive(Clone, Copy, Debug)]
pub struct CodeScales<'a> {
    /// That of head `h` of row `i`, rows counted through all sequences, is at `i * steps[0] + h * steps[1]`.
    pub scales: &'a [f32],
    /// From row to row, and from head to head; 0 where they share a scale.
    pub steps: [usize; 2],
}

impl<'a> From<Values<'a>> for Cached<'a> {
    fn from(values: Values<'a>) -> Self {
        Self::Values(values)
    }
}

impl Cached<'_> {
    /// The rows from this one on, which are `stride` elements apart.
    pub(super) fn rows_from(&self, row: usize, stride: usize) -> Self {
        match *self {
            Self::Values(values) => Self::Values(values.from(row * stride)),
            Self::Codes(codes, CodeScales { scales, steps }) => {
                Self::Codes(&codes[row * stride..], CodeScales { scales: &scales[row * steps[0]..], steps })
            }
        }
    }

    pub(super) fn element(&self) -> Element {
        match self {
            Self::Values(values) => Element::of(values.weight_type()),
            Self::Codes(..) => Element::Code,
        }
    }

    pub(super) fn pointer(&self) -> *const u8 {
        match self {
            Self::Values(values) => values.pointer(),
            Self::Codes(codes, _) => codes.as_ptr().cast(),
        }
    }

    /// Makes sure that there are `rows` rows of `heads` heads of `dim` elements, `stride` apart, with their scales.
    pub(super) fn check(&self, what: &str, rows: usize, [heads, dim]: [usize; 2], stride: usize) {
        let len = match self {
            Self::Values(values) => values.len(),
            Self::Codes(codes, _) => codes.len(),
        };
        check_rows(what, len, rows, heads * dim, stride);
        if let Self::Codes(_, CodeScales { scales, steps: [by_row, by_head] }) = self
            && rows * heads > 0
        {
            let needed = (rows - 1) * by_row + (heads - 1) * by_head + 1;
            assert!(scales.len() >= needed, "{what}: {} scales, but {needed} are read", scales.len());
        }
    }

    /// What a row of a head is multiplied by.
    #[inline(always)]
    pub(super) fn scale(&self, row: usize, head: usize) -> f32 {
        match self {
            Self::Values(_) => 1.0,
            Self::Codes(_, CodeScales { scales, steps }) => scales[row * steps[0] + head * steps[1]],
        }
    }
}

/// What an element of an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F32,
    Bf16,
    /// A signed number of 8 bits.
    Code,
}

impl Element {
    pub(super) fn of(dtype: WeightType) -> Self {
        if dtype == WeightType::Bf16 { Self::Bf16 } else { Self::F32 }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::Bf16 => size_of::<u16>(),
            Self::Code => size_of::<i8>(),
        }
    }

    /// Writes elements as numbers, not scaled.
    ///
    /// # Safety
    /// `from` is valid for reading as many elements, and aligned to them.
    #[inline(always)]
    pub(super) unsafe fn numbers(self, from: *const u8, to: &mut [f32]) {
        // SAFETY: as the caller says.
        unsafe {
            match self {
                Self::F32 => to.copy_from_slice(std::slice::from_raw_parts(from.cast(), to.len())),
                Self::Bf16 => {
                    let from = std::slice::from_raw_parts(from.cast::<u16>(), to.len());
                    to.iter_mut().zip(from).for_each(|(to, &from)| *to = bf16_value(from));
                }
                Self::Code => {
                    let from = std::slice::from_raw_parts(from.cast::<i8>(), to.len());
                    to.iter_mut().zip(from).for_each(|(to, &from)| *to = f32::from(from));
                }
            }
        }
    }
}

/// An [`Element`] that a loop is compiled for.
pub(super) trait Elements {
    const ELEMENT: Element;

    /// Reads the elements from number `at` on, at most `count` of them, and zeros behind these.
    ///
    /// # Safety
    /// The row has the elements.
    #[inline(always)]
    unsafe fn read<V: Vector>(row: *const u8, at: usize, count: usize) -> V {
        // SAFETY: as the caller says.
        unsafe {
            let from = row.add(at * Self::ELEMENT.bytes());
            match (Self::ELEMENT, count >= V::LANES) {
                (Element::F32, true) => V::load(from.cast()),
                (Element::F32, false) => V::load_some(from.cast(), count),
                (Element::Bf16, true) => V::load_bf16(from.cast()),
                (Element::Bf16, false) => V::load_bf16_some(from.cast(), count),
                (Element::Code, true) => V::load_codes(from.cast()),
                (Element::Code, false) => V::load_codes_some(from.cast(), count),
            }
        }
    }
}

pub(super) struct F32;
pub(super) struct Bf16;
pub(super) struct Codes;

impl Elements for F32 {
    const ELEMENT: Element = Element::F32;
}

impl Elements for Bf16 {
    const ELEMENT: Element = Element::Bf16;
}

impl Elements for Codes {
    const ELEMENT: Element = Element::Code;
}
