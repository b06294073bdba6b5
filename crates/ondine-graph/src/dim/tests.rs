//! Sizes are held to what integers and floats yield.

use proptest::prelude::*;

use super::*;

#[test]
fn strided_convolutions_and_their_upsampling_cancel_when_sizes_divide() {
    let height = &Dim::symbol("h") * 8;
    let down = (&height - 1).floor_div(2);
    let out = &down + 1;
    assert_eq!(out, &Dim::symbol("h") * 4);
    assert_eq!(&out * 2, height);
}

#[test]
fn floors_stay_when_the_size_is_unknown() {
    let half = (&Dim::symbol("h") - 1).floor_div(2);
    let bind = |h| half.bind(&Bindings::from([("h".into(), h)])).ok();
    assert_eq!((bind(7), bind(8)), (Some(3), Some(3)));
    assert_eq!(half.to_string(), "floor((h+1)/2)-1");
    assert_eq!((&Dim::from(0) - &(&Dim::from(0) - &Dim::symbol("h")).floor_div(2)).to_string(), "floor((h+1)/2)");
}

#[test]
fn dimensions_survive_a_file_and_others_are_refused() {
    let (height, width) = (Dim::symbol("h"), Dim::symbol("w"));
    let half = (&height - 1).floor_div(2);
    let pair = (&half * &width).pair(DimPair::Max, &Dim::from(3));
    let factor = Real::constant(0.7).pair(RealPair::Product, &Real::Of(height.clone()));
    let tall = Condition::compare(Comparison::Less, &Real::Of(width.clone()), &Real::Of(height.clone()));
    let chosen = Dim::choose(&tall, &height, &(&width + 1));
    let whole = factor.whole(Rounding::Round);
    for dim in [
        Dim::from(7),
        Dim::from_i64(-7),
        height.clone(),
        &height * 8,
        half,
        &(&pair * 2) - 1,
        pair,
        whole,
        chosen,
        (&height * i64::MAX as usize).pair(DimPair::Product, &(&width * 3)),
    ] {
        let text = serde_json::to_string(&dim).unwrap();
        assert_eq!(serde_json::from_str::<Dim>(&text).unwrap(), dim, "{text}");
    }
    let floor = |divisor: i64, inner: &str| format!(r#"[[[{{"floordiv":[{inner},{divisor}]}}],1]]"#);
    assert!(serde_json::from_str::<Dim>(&floor(2, r#""h""#)).is_ok());
    let twice = r#"[[[{"symbol":"h"}],1],[[{"symbol":"h"}],2]]"#.to_owned();
    let unsorted = r#"[[[{"symbol":"w"},{"symbol":"h"}],1]]"#.to_owned();
    for text in [floor(0, r#""h""#), floor(-2, r#""h""#), floor(2, "4"), twice, unsorted, "[[[],0]]".to_owned()] {
        assert!(serde_json::from_str::<Dim>(&text).is_err(), "{text}");
    }
}

#[test]
fn the_largest_size_is_that_of_the_worst_values() {
    let (n, h) = (Dim::symbol("n"), Dim::symbol("h"));
    let span = |n: usize, h: usize| Bindings::from([("n".into(), n), ("h".into(), h)]);
    let most = |dim: &Dim| dim.most(&span(0, 8), &span(5, 8)).unwrap().unwrap();
    assert_eq!(most(&(&n * &h)), 40);
    assert_eq!(most(&(&h - &n)), 8);
    assert_eq!(most(&(&n - &h)), 0);
    assert_eq!(most(&(&(&n * 3) + 1).floor_div(2)), 8);
    assert_eq!(most(&n.pair(DimPair::Max, &Dim::from(7))), 7);
    assert_eq!(most(&h.pair(DimPair::Quotient, &(&n + 1))), 8);
    assert_eq!(h.pair(DimPair::Quotient, &n).most(&span(0, 8), &span(5, 8)).unwrap(), None);
    assert_eq!(n.most(&span(0, 8), &span(usize::MAX, 8)).unwrap(), None);
}

#[test]
fn products_of_many_terms_stay_small_and_right() {
    let sum = (0..6).fold(Dim::from(1), |sum, i| &sum + &Dim::symbol(&format!("s{i}")));
    let bindings: Bindings = (0..6).map(|i| (format!("s{i}").into(), i)).collect();
    let power = (0..8).fold(Dim::from(1), |power, _| &power * &sum);
    assert!(power.terms.len() <= MAX_TERMS);
    assert_eq!(power.bind(&bindings).unwrap(), 16_usize.pow(8));
    assert_eq!(power.most(&bindings, &bindings).unwrap(), Some(16_usize.pow(8)));
}

#[test]
fn unbound_and_overflowing_dimensions_are_errors() {
    let huge = &Dim::symbol("a") * usize::MAX;
    assert!(huge.bind(&Bindings::new()).is_err());
    assert!(huge.bind(&Bindings::from([("a".into(), usize::MAX)])).is_err());
}

/// An expression of three sizes, and what Python would make of it.
#[derive(Clone, Debug)]
enum Sum {
    Size(usize),
    Number(i64),
    Add(Box<Sum>, Box<Sum>),
    Times(Box<Sum>, Box<Sum>),
    Floor(Box<Sum>, i64),
    Pair(DimPair, Box<Sum>, Box<Sum>),
    Scaled(Rounding, f64, Box<Sum>),
    Ratio(Rounding, Box<Sum>, i64),
    Larger(Box<Sum>, Box<Sum>),
}

const NAMES: [&str; 3] = ["h", "w", "n"];

impl Sum {
    fn dim(&self) -> Dim {
        match self {
            Self::Size(index) => Dim::symbol(NAMES[*index]),
            Self::Number(value) => Dim::from_i64(*value),
            Self::Add(a, b) => &a.dim() + &b.dim(),
            Self::Times(a, b) => &a.dim() * &b.dim(),
            Self::Floor(a, divisor) => a.dim().pair(DimPair::Quotient, &Dim::from_i64(*divisor)),
            Self::Pair(pair, a, b) => a.dim().pair(*pair, &b.dim()),
            Self::Scaled(rounding, factor, a) => {
                Real::constant(*factor).pair(RealPair::Product, &Real::Of(a.dim())).whole(*rounding)
            }
            Self::Ratio(rounding, a, divisor) => {
                Real::Of(a.dim()).pair(RealPair::Quotient, &Real::Of(Dim::from_i64(*divisor))).whole(*rounding)
            }
            Self::Larger(a, b) => {
                let (a, b) = (a.dim(), b.dim());
                let less = Condition::compare(Comparison::Less, &Real::Of(a.clone()), &Real::Of(b.clone()));
                Dim::choose(&less, &b, &a)
            }
        }
    }

    /// The number, by wide integers; none if there is none or it is not small.
    fn number(&self, sizes: [usize; 3]) -> Option<i128> {
        let value = match self {
            Self::Size(index) => sizes[*index] as i128,
            Self::Number(value) => i128::from(*value),
            Self::Add(a, b) => a.number(sizes)? + b.number(sizes)?,
            Self::Times(a, b) => a.number(sizes)? * b.number(sizes)?,
            Self::Floor(a, divisor) => floor(a.number(sizes)?, i128::from(*divisor))?,
            Self::Pair(pair, a, b) => {
                let (a, b) = (a.number(sizes)?, b.number(sizes)?);
                match pair {
                    DimPair::Max => a.max(b),
                    DimPair::Min => a.min(b),
                    DimPair::Quotient => floor(a, b)?,
                    _ => a * b,
                }
            }
            Self::Scaled(rounding, factor, a) => i128::from(rounding.apply(factor * a.number(sizes)? as f64)?),
            Self::Ratio(rounding, a, divisor) => {
                let (a, divisor) = (a.number(sizes)?, *divisor);
                i128::from(rounding.apply((divisor != 0).then(|| a as f64 / divisor as f64)?)?)
            }
            Self::Larger(a, b) => a.number(sizes)?.max(b.number(sizes)?),
        };
        // Where floats hold all integers.
        (value.abs() < 1 << 40).then_some(value)
    }
}

fn floor(a: i128, b: i128) -> Option<i128> {
    let quotient = a.checked_div(b)?;
    Some(if quotient * b != a && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
}

fn sums() -> impl Strategy<Value = Sum> {
    let rounding = || prop::sample::select(vec![Rounding::Floor, Rounding::Ceil, Rounding::Trunc, Rounding::Round]);
    let factor = || prop::sample::select(vec![0.5, 0.75, 1.5, 2.0, 3.0, 0.1, 1.0 / 3.0, 0.7, 2.3, -0.5, 1e-3]);
    let leaf = prop_oneof![(0..3_usize).prop_map(Sum::Size), (-9_i64..10).prop_map(Sum::Number)];
    leaf.prop_recursive(5, 24, 2, move |inner| {
        let two = || (inner.clone(), inner.clone()).prop_map(|(a, b)| (Box::new(a), Box::new(b)));
        let one = || inner.clone().prop_map(Box::new);
        prop_oneof![
            3 => two().prop_map(|(a, b)| Sum::Add(a, b)),
            1 => two().prop_map(|(a, b)| Sum::Times(a, b)),
            3 => (one(), -6_i64..7).prop_map(|(a, divisor)| Sum::Floor(a, divisor)),
            2 => (prop::sample::select(vec![DimPair::Max, DimPair::Min, DimPair::Quotient, DimPair::Product]), two())
                .prop_map(|(pair, (a, b))| Sum::Pair(pair, a, b)),
            1 => (rounding(), factor(), one()).prop_map(|(rounding, factor, a)| Sum::Scaled(rounding, factor, a)),
            1 => (rounding(), one(), -6_i64..7).prop_map(|(rounding, a, divisor)| Sum::Ratio(rounding, a, divisor)),
            1 => two().prop_map(|(a, b)| Sum::Larger(a, b)),
        ]
    })
}

fn bound(sizes: [usize; 3]) -> Bindings {
    NAMES.iter().zip(sizes).map(|(&name, size)| (name.into(), size)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_expression_has_the_value_that_integers_have(sum in sums(), sizes in prop::array::uniform3(0_usize..40)) {
        let dim = sum.dim();
        if let Some(number) = sum.number(sizes) {
            // What divides itself is written as 1, also where that is 0.
            let found = dim.evaluate(&bound(sizes)).unwrap();
            prop_assert!(found.is_none_or(|found| i128::from(found) == number), "{dim}: {found:?}, not {number}");
            prop_assert!(found.is_some(), "{dim} has no value");
            let (least, most) = (sizes.map(|size| size.saturating_sub(3)), sizes.map(|size| size + 3));
            if let Some([low, high]) = dim.bounds(&bound(least), &bound(most)).unwrap() {
                prop_assert!((i128::from(low)..=i128::from(high)).contains(&number), "{dim} in {low}..{high}: {number}");
            }
            prop_assert!(!dim.is_counting() || number >= 0, "{dim}: {number}");
        }
    }

    #[test]
    fn an_expression_survives_a_file(sum in sums()) {
        let dim = sum.dim();
        let text = serde_json::to_string(&dim).unwrap();
        prop_assert_eq!(serde_json::from_str::<Dim>(&text).unwrap(), dim, "{}", text);
    }

    #[test]
    fn floors_of_floors_are_one(a in 1_usize..9, b in 1_usize..9, c in -9_i64..10, d in -9_i64..10, k in 1_i64..5) {
        let h = &Dim::symbol("h") * &Dim::from_i64(k);
        let inner = (&h + &Dim::from_i64(c)).floor_div(a);
        let outer = (&inner + &Dim::from_i64(d)).floor_div(b);
        let joined = (&(&h + &Dim::from_i64(c)) + &Dim::from_i64(a as i64 * d)).floor_div(a * b);
        // A floor that is several times in the other keeps its place.
        prop_assert!(outer == joined || k > 1 || a == 1 || b == 1, "{outer} and {joined}");
        for size in 0..50 {
            let bindings = bound([size, 0, 0]);
            prop_assert_eq!(outer.evaluate(&bindings).unwrap(), joined.evaluate(&bindings).unwrap());
        }
    }
}

#[test]
fn sizes_of_usual_layers_that_are_equal_compare_equal() {
    let h = Dim::symbol("h");
    // A stride of four beside two of two, kernels of 3 and 7.
    let twice = |x: &Dim| &(x - 1).floor_div(2) + 1;
    assert_eq!(twice(&twice(&h)), &(&(&h + 6) - 7).floor_div(4) + 1);
    // Half by a factor, by a pool, by a division that is not whole.
    let half = Real::constant(0.5).pair(RealPair::Product, &Real::Of(h.clone()));
    let ratio = Real::Of(h.clone()).pair(RealPair::Quotient, &Real::Of(2.into()));
    assert_eq!(half.whole(Rounding::Trunc), h.floor_div(2));
    assert_eq!(ratio.whole(Rounding::Floor), h.floor_div(2));
    assert_eq!(ratio.whole(Rounding::Ceil), (&h + 1).floor_div(2));
    // Pieces join to the whole.
    let left = h.floor_div(3);
    assert_eq!(&left + &(&h - &left), h);
    assert_eq!((&(&h * 6) + 5).floor_div(4), (&(&h * 3) + 2).floor_div(2));
    assert_eq!(h.pair(DimPair::Max, &(&h + 3)), &h + 3);
    assert_eq!(h.pair(DimPair::Quotient, &h), 1.into());
}

#[test]
fn what_is_too_large_or_divided_by_nothing_is_an_error() {
    let h = Dim::symbol("h");
    let with = |dim: &Dim, size: usize| dim.number(&Bindings::from([("h".into(), size)]));
    let most = Dim::from_i64(i64::MAX);
    let least = Dim::from_i64(i64::MIN);
    assert!(with(&(&most + 1), 1).is_err());
    assert!(with(&(&(&h * &most) * 2), 1).is_err());
    assert!(with(&(&Dim::from(0) - &least), 1).is_err());
    assert!(with(&Dim::from(3).pair(DimPair::Quotient, &Dim::from(0)), 1).is_err());
    assert!(with(&h.pair(DimPair::Quotient, &(&h - 1)), 1).is_err());
    assert!(with(&least.pair(DimPair::Quotient, &Dim::from_i64(-1)), 1).is_err());
    assert!(with(&h.pair(DimPair::Quotient, &least), 1).is_ok_and(|value| value == -1));
    assert!(with(&h.pair(DimPair::Power, &Dim::from(500)), 3).is_err());
    assert!(with(&h.pair(DimPair::Power, &Dim::from(500)), 1).is_ok_and(|value| value == 1));
    let odd = Real::Of(h.clone()).pair(RealPair::Quotient, &Real::Of(&h - 1));
    assert!(with(&odd.whole(Rounding::Trunc), 1).is_err());
    let huge = Real::constant(1e300).pair(RealPair::Product, &Real::Of(h.clone()));
    assert!(with(&huge.whole(Rounding::Trunc), 1).is_err());
    // Each time twice as long when written out.
    let mut long = h;
    let grown = (0..200).find(|_| {
        long = long.pair(DimPair::Quotient, &(&long + 1));
        !long.is_small()
    });
    assert!(grown.is_some_and(|times| times < 64));
}
