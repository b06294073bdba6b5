//! Properties of attention, checked for every tier of this processor against [`crate::naive`].

use half::bf16;
use proptest::prelude::*;

use super::{quantize::tests::round_operands, *};
use crate::{
    CodeScales, naive,
    suite::{Random, Tensor, bits, collect, float, tiers},
};

/// Which mask a test of attention has.
#[derive(Clone, Copy, Debug)]
enum MaskKind {
    None,
    Keys,
    Lengths,
    Ring,
    Additive(bool, bool),
}

fn attention_shape() -> impl Strategy<Value = AttentionShape> {
    let size = || prop_oneof![1_usize..20, proptest::sample::select(vec![63, 64, 97, 127, 128, 129, 200, 260])];
    let dim = || proptest::sample::select(vec![1_usize, 3, 8, 20, 32, 40, 64, 65, 80]);
    let heads = (1_usize..3, 1_usize..3, 1_usize..3);
    (
        heads,
        size(),
        size(),
        dim(),
        dim(),
        [0_usize..3, 0_usize..3, 0_usize..3],
        0_usize..2,
        -0.5_f32..2.0,
        [any::<bool>(), any::<bool>()],
        proptest::option::of(prop_oneof![1_usize..20, 100_usize..200]),
    )
        .prop_map(
            |((batch, kv_heads, repeat), queries, keys, head_dim, value_dim, gaps, out_gap, scale, flags, window)| {
                let heads = kv_heads * repeat;
                let widths = [heads * head_dim, kv_heads * head_dim, kv_heads * value_dim];
                let strides = [0, 1, 2].map(|i| widths[i] + gaps[i]);
                let out_stride = heads * value_dim + out_gap;
                AttentionShape {
                    batch,
                    heads,
                    kv_heads,
                    queries,
                    keys,
                    head_dim,
                    value_dim,
                    strides,
                    out_stride,
                    scale,
                    causal: flags[0],
                    window,
                    eight_bit: flags[1],
                }
            },
        )
}

fn mask_kind() -> impl Strategy<Value = MaskKind> {
    let additive = (any::<bool>(), any::<bool>()).prop_map(|(batch, heads)| MaskKind::Additive(batch, heads));
    prop_oneof![Just(MaskKind::None), Just(MaskKind::Keys), Just(MaskKind::Lengths), Just(MaskKind::Ring), additive]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn attention_is_right(
        shape in attention_shape(),
        mask in mask_kind(),
        dtype in float(),
        out in float(),
        seed: u64,
    ) {
        check_attention(&shape, mask, dtype, Kept::Values(dtype), out, seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn attention_to_what_is_kept_in_another_type_is_right(
        shape in attention_shape(),
        mask in mask_kind(),
        dtype in float(),
        kept in kept(),
        out in float(),
        seed: u64,
    ) {
        check_attention(&shape, mask, dtype, kept, out, seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn attention_of_few_queries_is_right(
        shape in attention_shape(),
        (queries, repeat) in proptest::sample::select(vec![(1_usize, 1_usize), (1, 3), (1, 5), (1, 8), (2, 4), (3, 2), (8, 1)]),
        mask in mask_kind(),
        dtype in float(),
        kept in kept(),
        out in float(),
        seed: u64,
    ) {
        let heads = shape.kv_heads * repeat;
        let gap = shape.strides[0] - shape.heads * shape.head_dim;
        let strides = [heads * shape.head_dim + gap, shape.strides[1], shape.strides[2]];
        let out_stride = shape.out_stride + heads * shape.value_dim - shape.heads * shape.value_dim;
        let shape = AttentionShape { heads, queries, strides, out_stride, ..shape };
        assert!(are_few(&shape));
        check_attention(&shape, mask, dtype, kept, out, seed);
    }
}

/// What keys and values of a test of attention are kept in.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Values(WeightType),
    /// Codes, with a scale for each row, for each head, for both, or one for all.
    Codes([bool; 2]),
}

fn kept() -> impl Strategy<Value = Kept> {
    let codes = [any::<bool>(), any::<bool>()].prop_map(Kept::Codes);
    prop_oneof![float().prop_map(Kept::Values), codes]
}

/// Keys or values of a test of attention: elements, and codes with their scales if they are some.
struct KeptRows {
    tensor: Tensor,
    codes: Vec<i8>,
    scales: Vec<f32>,
    steps: Option<[usize; 2]>,
}

impl KeptRows {
    fn new(kept: Kept, random: &mut Random, [rows, stride]: [usize; 2], kv_heads: usize) -> Self {
        let (dtype, steps) = match kept {
            Kept::Values(dtype) => (dtype, None),
            Kept::Codes([by_row, by_head]) => {
                let heads = if by_head { kv_heads } else { 1 };
                (WeightType::F32, Some([if by_row { heads } else { 0 }, usize::from(by_head)]))
            }
        };
        let tensor = Tensor::new(dtype, random, rows * stride, 1);
        let codes = random.numbers(rows * stride).iter().map(|x| (x * 130.0) as i8).collect();
        let scales = random.numbers(rows * kv_heads).iter().map(|x| (2.0 + x) / 3.0 / 127.0).collect();
        Self { tensor, codes, scales, steps }
    }

    fn cached(&self) -> Cached<'_> {
        match self.steps {
            Some(steps) => Cached::Codes(&self.codes, CodeScales { scales: &self.scales, steps }),
            None => self.tensor.values().into(),
        }
    }

    /// The numbers of heads of `dim`, in rows `stride` apart; of bf16 if they become that.
    fn numbers(&self, stride: usize, dim: usize, halved: bool) -> Vec<f64> {
        let mut numbers = match self.steps {
            None => self.tensor.numbers(),
            Some([by_row, by_head]) => {
                let scale = |at: usize| {
                    let at = at / stride * by_row + at % stride / dim * by_head;
                    // Between rows there may be more elements than heads.
                    self.scales[at.min(self.scales.len() - 1)]
                };
                self.codes.iter().enumerate().map(|(at, &code)| f64::from(f32::from(code) * scale(at))).collect()
            }
        };
        if halved {
            numbers.iter_mut().for_each(|x| *x = bf16::from_f64(*x).to_f64());
        }
        numbers
    }
}

/// A shape whose keys are a ring that holds all that is seen.
fn of_ring(shape: &AttentionShape) -> AttentionShape {
    let window = shape.window.unwrap_or(17);
    // What keys of 8 bits are rounded to is told by those in order, see `attention::ring`.
    let keys = shape.keys.max(window + shape.queries - 1);
    AttentionShape { window: Some(window), keys, eight_bit: false, ..*shape }
}

fn check_attention(shape: &AttentionShape, mask: MaskKind, dtype: WeightType, kept: Kept, out: WeightType, seed: u64) {
    let shape = &if let MaskKind::Ring = mask { of_ring(shape) } else { *shape };
    let &AttentionShape { batch, heads, kv_heads, queries, keys, head_dim, value_dim, strides, out_stride, .. } = shape;
    let mut random = Random(seed);
    let of_queries = Tensor::new(dtype, &mut random, batch * queries * strides[0], 1);
    let rows = [1, 2].map(|i| KeptRows::new(kept, &mut random, [batch * keys, strides[i]], kv_heads));
    let seen: Vec<bool> = (0..batch * keys).map(|_| random.number() > -0.3).collect();
    let lengths: Vec<usize> = (0..batch).map(|i| keys.saturating_sub(i * (seed as usize % 50))).collect();
    let had: Vec<usize> = (0..batch).map(|i| (seed as usize % (3 * keys + 1)).saturating_sub(31 * i)).collect();
    let additive: Vec<f32> = (0..batch * heads * queries * keys)
        .map(|i| if i % 5 == 0 { f32::NEG_INFINITY } else { 3.0 * random.number() })
        .collect();
    let mask = match mask {
        MaskKind::None => AttentionMask::None,
        MaskKind::Keys => AttentionMask::Keys(&seen),
        MaskKind::Lengths => AttentionMask::Lengths(&lengths),
        MaskKind::Ring => AttentionMask::Ring(&had),
        MaskKind::Additive(batch, heads) => {
            let count = if batch { shape.batch } else { 1 } * if heads { shape.heads } else { 1 };
            AttentionMask::Additive { values: &additive[..count * queries * keys], batch, heads }
        }
    };
    for cpus in tiers() {
        let cpu = &cpus[0];
        // Few queries are multiplied as they are.
        let eight_bit = shape.eight_bit && !are_few(shape);
        let words = cpu.tier().attention_words(dtype, eight_bit);
        let halved = |per_word: usize| per_word == 2 && !are_few(shape);
        let mut numbers = [
            of_queries.numbers(),
            rows[0].numbers(strides[1], head_dim, halved(words.queries_per_word)),
            rows[1].numbers(strides[2], value_dim, halved(words.per_word)),
        ];
        if dtype == WeightType::Bf16 {
            let lengths = if let AttentionMask::Lengths(lengths) = mask { lengths } else { &vec![keys; batch] };
            let shape = AttentionShape { eight_bit, ..*shape };
            round_operands(cpu, &shape, lengths, &mut numbers);
        }
        let wanted = naive::attention(shape, numbers.each_ref().map(Vec::as_slice), mask);
        let run = |threads: usize| {
            let keys = keys + if let AttentionMask::Ring(_) = mask { WINDOW_TILE } else { 0 };
            let planned = AttentionShape { keys, ..*shape };
            let mut scratch = vec![0xff; attention_scratch_bytes(cpu, &planned, dtype)];
            let cached = rows.each_ref().map(KeptRows::cached);
            collect(out, batch * queries * out_stride, |out| {
                attention(&cpus[threads - 1], shape, of_queries.values(), cached, mask, out, &mut scratch);
            })
        };
        let got = run(1);
        for threads in [2, 3] {
            assert!(bits(&got) == bits(&run(threads)), "{threads} threads, {}: {shape:?}", cpu.tier());
        }
        // Values are below 1. Weights of bf16 are off by 2^-9, and so may be what they sum up to.
        let error =
            if dtype == WeightType::Bf16 { 6e-3 } else { 3e-5 } + if out == WeightType::Bf16 { 4e-3 } else { 0.0 };
        for (index, want) in wanted.iter().enumerate() {
            let (row, column) = (index / (heads * value_dim), index % (heads * value_dim));
            let got = f64::from(got[row * out_stride + column]);
            assert!((got - want).abs() <= error, "{got} for {want} at {index}, {}: {shape:?} {mask:?}", cpu.tier());
        }
        for row in got.chunks(out_stride) {
            assert!(row[heads * value_dim..].iter().all(|&x| x == -7.0), "gap overwritten, {}", cpu.tier());
        }
    }
}

#[test]
fn queries_that_see_no_key_get_zeros() {
    // Few queries, and more than that.
    for queries in [3, 20] {
        check_unseen(queries);
    }
}

fn check_unseen(queries: usize) {
    let shape = AttentionShape {
        batch: 2,
        heads: 1,
        kv_heads: 1,
        queries,
        keys: 5,
        head_dim: 2,
        value_dim: 2,
        strides: [2; 3],
        out_stride: 2,
        scale: 1.0,
        causal: false,
        window: None,
        eight_bit: false,
    };
    let seen: Vec<bool> = (0..10).map(|i| i >= 5).collect();
    let (x, half) = (vec![1.5; 80], 2 * queries);
    for cpus in tiers() {
        let cpu = &cpus[0];
        let mut scratch = vec![0; attention_scratch_bytes(cpu, &shape, WeightType::F32)];
        let mut out = vec![-7.0; 2 * half];
        let cached = [Cached::Values(Values::F32(&x[..20])); 2];
        let mask = AttentionMask::Keys(&seen);
        attention(cpu, &shape, Values::F32(&x[..2 * half]), cached, mask, Output::F32(&mut out), &mut scratch);
        assert!(out[..half].iter().all(|&x| x == 0.0));
        assert!(out[half..].iter().all(|x| (x - 1.5).abs() < 1e-6));
    }
}
