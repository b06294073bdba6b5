//! Tests of rings: to the bit what rows in order give, wherever the ring begins.

use half::bf16;
use proptest::prelude::*;

use super::{attention, attention_scratch_bytes, few::are_few};
use crate::{
    AttentionMask, AttentionShape, Cached, CodeScales, Output, Values, WINDOW_TILE, WeightType,
    suite::{Random, tiers},
};

/// Keys or values in one of the types in which they are kept.
enum Held {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    /// With a scale for each head of a row.
    Codes(Vec<i8>, Vec<f32>),
}

impl Held {
    fn new(kind: usize, numbers: &[f32], scales: &[f32]) -> Self {
        match kind {
            0 => Self::F32(numbers.to_vec()),
            1 => Self::Bf16(numbers.iter().map(|&x| bf16::from_f32(x)).collect()),
            _ => Self::Codes(numbers.iter().map(|x| (x * 127.0) as i8).collect(), scales.to_vec()),
        }
    }

    fn cached(&self, kv_heads: usize) -> Cached<'_> {
        match self {
            Self::F32(numbers) => Values::F32(numbers).into(),
            Self::Bf16(numbers) => Values::Bf16(numbers).into(),
            Self::Codes(codes, scales) => Cached::Codes(codes, CodeScales { scales, steps: [kv_heads, 1] }),
        }
    }
}

/// Rows of each sequence as a ring of `rows` holds them after all have been written, one after the other.
fn written(numbers: &[f32], width: usize, lengths: &[usize], most: usize, rows: usize) -> Vec<f32> {
    let mut ring = vec![f32::MAX; lengths.len() * rows * width];
    for (sequence, &length) in lengths.iter().enumerate() {
        for at in 0..length {
            let from = &numbers[(sequence * most + at) * width..][..width];
            ring[(sequence * rows + at % rows) * width..][..width].copy_from_slice(from);
        }
    }
    ring
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_ring_gives_what_rows_in_order_give(
        (batch, kv_heads, repeat) in (1_usize..3, 1_usize..3, 1_usize..5),
        queries in prop_oneof![1_usize..4, 20_usize..50, Just(100)],
        window in prop_oneof![1_usize..20, Just(96), 100_usize..300],
        past in 0_usize..900,
        spare in 0_usize..3,
        (head_dim, value_dim) in (1_usize..70, 1_usize..40),
        (kind, dtype, eight_bit, causal) in (0_usize..3, 0_usize..2, any::<bool>(), any::<bool>()),
        seed: u64,
    ) {
        let heads = kv_heads * repeat;
        let lengths: Vec<usize> = (0..batch).map(|i| past / (i + 1) + queries).collect();
        let most = past + queries;
        // As few rows as hold what is seen in whole tiles, and more.
        let rows = (window + queries + WINDOW_TILE - 2 + 50 * spare).next_multiple_of(WINDOW_TILE);
        let widths = [heads * head_dim, kv_heads * head_dim, kv_heads * value_dim];
        let ordered = AttentionShape {
            batch, heads, kv_heads, queries, keys: most, head_dim, value_dim, strides: widths,
            out_stride: heads * value_dim, scale: 0.3, causal, window: Some(window), eight_bit,
        };
        let mut random = Random(seed);
        let of_queries = random.numbers(batch * queries * widths[0]);
        let halves: Vec<bf16> = of_queries.iter().map(|&x| bf16::from_f32(x)).collect();
        let dtype = if dtype == 0 { WeightType::F32 } else { WeightType::Bf16 };
        let of_queries = if dtype == WeightType::F32 { Values::F32(&of_queries) } else { Values::Bf16(&halves) };
        let held = [1, 2].map(|which| {
            let numbers = random.numbers(batch * most * widths[which]);
            let scales: Vec<f32> = random.numbers(batch * most * kv_heads).iter().map(|x| (x + 1.1) / 100.0).collect();
            let ring = Held::new(
                kind,
                &written(&numbers, widths[which], &lengths, most, rows),
                &written(&scales, kv_heads, &lengths, most, rows),
            );
            [Held::new(kind, &numbers, &scales), ring]
        });
        for cpu in tiers().flatten() {
            let run = |which: usize, keys: usize, mask: AttentionMask<'_>| {
                let shape = AttentionShape { keys, ..ordered };
                let planned = AttentionShape { keys: keys + WINDOW_TILE, ..ordered };
                let mut scratch = vec![0xff; attention_scratch_bytes(&cpu, &planned, dtype)];
                let mut out = vec![-7.0_f32; batch * queries * ordered.out_stride];
                let cached = held.each_ref().map(|held| held[which].cached(kv_heads));
                attention(&cpu, &shape, of_queries, cached, mask, Output::F32(&mut out), &mut scratch);
                out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let wanted = run(0, most, AttentionMask::Lengths(&lengths));
            let found = run(1, rows, AttentionMask::Ring(&lengths));
            prop_assert_eq!(found, wanted, "{}, few {}: {:?} {:?}", cpu.tier(), are_few(&ordered), ordered, lengths);
        }
    }
}
