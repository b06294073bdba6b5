//! Some columns of a product, checked for every tier of this processor and every type of weights against all of them.

use half::bf16;
use proptest::prelude::*;

use super::*;
use crate::{
    RowScale, WeightShape, WeightSource, WeightType, pack, quantize_rows,
    suite::{Aligned, Random, tiers},
};

/// Where nothing has been written.
pub(crate) const UNTOUCHED: f32 = -7.0;

/// About one in `one_in` of `count` columns, in their order.
pub(crate) fn some_columns(random: &mut Random, count: usize, one_in: usize) -> Vec<usize> {
    (0..count).filter(|_| (random.number() + 1.0) / 2.0 * (one_in as f32) < 1.0).collect()
}

/// Holds `some` of the columns of rows, `stride` apart, to what they are among `all`; panels of `width` in which none
/// of them lies must not have been computed.
pub(crate) fn check_some(some: &[f32], all: &[f32], [stride, count, width]: [usize; 3], columns: &[usize], case: &str) {
    let panels: Vec<usize> = columns.iter().map(|column| column / width).collect();
    for (row, (some, all)) in some.chunks(stride).zip(all.chunks(stride)).enumerate() {
        for &column in columns {
            let (found, wanted) = (some[column], all[column]);
            assert!(found.to_bits() == wanted.to_bits(), "{found} for {wanted} at {row}, {column}: {case}");
        }
        let left = (0..stride).filter(|column| *column >= count || !panels.contains(&(column / width)));
        left.for_each(|column| assert!(some[column] == UNTOUCHED, "{row}, {column} was computed: {case}"));
    }
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![1_usize..9, proptest::sample::select(vec![15, 16, 17, 31, 33, 63, 64, 65, 97, 130])]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn some_columns_are_what_they_are_among_all(
        (rows, channels) in (prop_oneof![3 => 1_usize..10, 1 => Just(195_usize)], size()),
        outputs in prop_oneof![size(), proptest::sample::select(vec![300_usize, 1030])],
        dtype in proptest::sample::select(vec![WeightType::F32, WeightType::Bf16, WeightType::S8]),
        (one_in, bias, gap, seed) in (proptest::sample::select(vec![1_usize, 2, 8, 60, 500]), any::<bool>(), 0_usize..4,
            any::<u64>()),
    ) {
        let mut random = Random(seed);
        let shape = WeightShape::linear(dtype, outputs, channels);
        let (weights, x, offsets) =
            (random.numbers(outputs * channels), random.numbers(rows * channels), random.numbers(outputs));
        let brain: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
        let columns = some_columns(&mut random, outputs, one_in);
        for cpus in tiers() {
            let cpu = &cpus[0];
            let mut packed = Aligned::new(shape.packed_size(cpu));
            pack(cpu, &shape, WeightSource::F32(&weights), packed.get_mut());
            let (mut codes, mut scales) = (vec![0; x.len()], vec![RowScale::default(); rows]);
            quantize_rows(cpu, channels, &x, &mut codes, &mut scales);
            let input = match dtype {
                WeightType::F32 => Input::F32(&x),
                WeightType::Bf16 => Input::Bf16(&brain),
                WeightType::S8 => Input::U8 { values: &codes, scales: &scales },
            };
            let (weights, out_stride) = (PackedWeights::new(cpu, shape, packed.get()), outputs + gap);
            let epilogue = Epilogue { bias: bias.then_some(&offsets), ..Epilogue::default() };
            let problem = GemmProblem { rows, input, input_stride: channels, weights, epilogue, out_stride };
            let mut all = vec![UNTOUCHED; rows * out_stride];
            gemm(cpu, &problem, Output::F32(&mut all));
            for cpu in &cpus {
                let mut some = vec![UNTOUCHED; rows * out_stride];
                gemm_columns(cpu, &problem, &columns, Output::F32(&mut some));
                let case = format!("{columns:?} of {shape:?}, {rows} rows, {}", cpu.tier());
                check_some(&some, &all, [out_stride, outputs, cpu.tile().width], &columns, &case);
            }
        }
    }
}

#[test]
#[should_panic(expected = "columns are not in rising order")]
fn columns_rise() {
    check_columns(&[3, 3], 9, false);
}
