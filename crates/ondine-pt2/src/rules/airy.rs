//! Airy's function: its series near 0, fractions of the Cephes library (Moshier 1984) on both sides.

use super::rule::{Rule, one};
use crate::formula::Formula;

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[Rule::new("special_airy_ai", |builder, call| {
    let x = call.float_tensor(builder, if call.has("x") { "x" } else { "self" })?;
    one(airy(&Formula::of(&x)).build(builder)?)
})];

/// Where the series ends and the fractions begin.
const NEAR: f64 = 2.09;

/// Beyond this the function is 0 in 32 bits.
const FAR: f64 = 103.892;

/// `1 / sqrt(pi)`
const SCALE: f64 = 0.564_189_583_547_756_3;

const ABOVE: [[f64; 8]; 2] = [
    [
        3.465_381_015_256_29e-1,
        1.200_759_527_396_458e1,
        7.627_960_536_152_345e1,
        1.680_892_249_346_305_8e2,
        1.597_563_913_501_644_2e2,
        7.053_609_068_404_441e1,
        1.402_646_911_633_896_7e1,
        1.0,
    ],
    [
        5.675_945_326_387_703e-1,
        1.475_625_625_848_472e1,
        8.451_389_701_414_746e1,
        1.773_180_881_454_004_5e2,
        1.642_346_928_715_297e2,
        7.147_784_008_255_756e1,
        1.409_591_356_078_340_3e1,
        1.0,
    ],
];

const BELOW_SINE: [[f64; 9]; 2] = [
    [
        -1.316_963_234_183_318e-1,
        -6.264_565_444_319_124e-1,
        -6.931_580_360_369_335e-1,
        -2.797_799_815_451_191e-1,
        -4.919_001_326_095_003e-2,
        -4.062_659_235_948_854e-3,
        -1.592_764_962_392_621e-4,
        -2.776_491_081_552_329e-6,
        -1.677_876_984_891_146_3e-8,
    ],
    [
        1.335_604_207_065_532_4e1,
        3.268_250_327_952_246e1,
        2.673_670_409_414_995_5e1,
        9.187_074_029_072_596,
        1.475_291_467_716_664_2,
        1.156_871_737_951_880_4e-1,
        4.402_916_416_152_112e-3,
        7.547_203_482_874_143e-5,
        4.518_500_929_705_803_7e-7,
    ],
];

const BELOW_COSINE: [&[f64]; 2] = [
    &[
        1.973_399_320_916_857e-2,
        3.911_030_296_156_882_7e-1,
        1.065_798_975_995_955_8,
        9.391_692_298_166_502e-1,
        3.514_656_561_055_476_2e-1,
        6.338_889_196_289_255e-2,
        5.858_041_130_483_885e-3,
        2.828_516_008_367_37e-4,
        6.987_936_699_972_61e-6,
        8.117_892_395_543_893e-8,
        3.415_517_847_659_236e-10,
    ],
    &[
        9.308_929_080_774_42,
        1.983_529_287_183_121_5e1,
        1.556_466_289_328_646e1,
        5.476_860_694_229_755,
        9.542_936_116_189_618e-1,
        8.645_808_263_523_921e-2,
        4.126_565_238_242_226e-3,
        1.012_590_851_165_091_4e-4,
        1.171_667_332_144_135_2e-6,
        4.918_345_700_629_301e-9,
    ],
];

fn fraction([above, below]: [&[f64]; 2], x: &Formula) -> Formula {
    x.polynomial(above) / x.polynomial(below)
}

fn airy(x: &Formula) -> Formula {
    let (right, left) = (x.max(NEAR), x.min(-NEAR));
    let zeta = &right * right.sqrt() * (2.0 / 3.0);
    let decays = fraction([&ABOVE[0], &ABOVE[1]], &(1.0 / &zeta)) * SCALE / (right.sqrt().sqrt() * zeta.exp() * 2.0);
    let decays = x.more(FAR).choose(0.0, decays);
    let away = -left;
    let zeta = &away * away.sqrt() * (2.0 / 3.0);
    let (inverse, angle) = (1.0 / &zeta, &zeta + std::f64::consts::FRAC_PI_4);
    let square = &inverse * &inverse;
    let sine = angle.sin() * (1.0 + &square * fraction([&BELOW_SINE[0], &BELOW_SINE[1]], &square));
    let cosine = angle.cos() * inverse * fraction(BELOW_COSINE, &square);
    let swings = (sine - cosine) * SCALE / away.sqrt().sqrt();
    let near = x.max(-NEAR).min(NEAR);
    let infinite = x.abs().equals(f64::INFINITY).or(x.equals(x).not());
    let value = x.less(-NEAR).choose(swings, x.less(NEAR).choose(series(&near), decays));
    infinite.choose(f64::NAN, value)
}

/// The two series of powers of `x` cubed.
fn series(x: &Formula) -> Formula {
    const TERMS: usize = 14;
    let cube = x * x * x;
    let coefficients = |shift: f64| {
        let mut value = 1.0;
        let mut all = vec![1.0];
        for term in 1..TERMS {
            let third = 3.0 * term as f64;
            value /= third * (third + shift);
            all.push(value);
        }
        all.reverse();
        all
    };
    let (even, odd) = (cube.polynomial(&coefficients(-1.0)), cube.polynomial(&coefficients(1.0)) * x);
    even * 0.355_028_053_887_817_2 - odd * 0.258_819_403_792_806_8
}
