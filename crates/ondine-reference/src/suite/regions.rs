//! Cases of regions of feature maps and of overlapping boxes.

use ondine_graph::{DType, Op, Region, Regions};

use super::case::{Case, reals};

/// Which picture, left, top, right, bottom: within the map, across its border, outside, of no size, turned around.
const REGIONS: [f64; 35] = [
    0.0, 1.0, 2.0, 7.5, 6.0, 1.0, 0.0, 0.0, 9.0, 9.0, 1.0, -3.0, -2.5, 4.0, 20.0, 0.0, 30.0, 30.0, 40.0, 44.0, 0.0,
    3.3, 3.3, 3.3, 3.3, 1.0, 6.0, 5.0, 2.0, 1.0, 0.0, 0.0, 0.0, 100.0, 3.0,
];

fn ways() -> Vec<Region> {
    let mut ways = vec![Region::Largest, Region::Touched];
    for (samples, edges) in [(0, true), (0, false), (2, true), (3, false)] {
        ways.push(Region::Mean { samples, edges, apart: false });
    }
    ways.extend([0, 2].map(|samples| Region::Mean { samples, edges: true, apart: true }));
    ways
}

fn regions() -> Vec<Case> {
    let mut cases = Vec::new();
    for how in ways() {
        for (bins, scale, channels) in [([1, 1], 1.0, 3), ([2, 3], 0.5, 2), ([3, 2], 0.75, 17)] {
            let all = if how.is_apart() { channels * bins[0] * bins[1] } else { channels };
            cases.push(Case::new(format!("regions {how:?} in {bins:?} bins"), |case| {
                let x = case.random(DType::F32, &[2, 8, 9, all]);
                let boxes = case.input(reals(DType::F32, &[7, 5], &REGIONS));
                case.push(Op::Regions(Regions { bins, scale, how }), &[x, boxes])
            }));
        }
    }
    cases.push(Case::new("no regions", |case| {
        let x = case.random(DType::F32, &[1, 4, 4, 2]);
        let boxes = case.input(reals(DType::F32, &[0, 5], &[]));
        case.push(Op::Regions(Regions { bins: [2, 2], scale: 1.0, how: Region::Largest }), &[x, boxes])
    }));
    cases.push(Case::refused("a region of a picture that there is not", |case| {
        let x = case.random(DType::F32, &[2, 4, 4, 2]);
        let boxes = case.input(reals(DType::F32, &[1, 5], &[2.0, 0.0, 0.0, 1.0, 1.0]));
        case.push(Op::Regions(Regions { bins: [2, 2], scale: 1.0, how: Region::Largest }), &[x, boxes])
    }));
    cases
}

fn boxes() -> Vec<Case> {
    let sides = [
        0.0, 0.0, 10.0, 9.0, 0.0, 0.0, 10.0, 10.0, 1.0, 1.0, 11.0, 11.0, 20.0, 20.0, 30.0, 30.0, 2.0, 2.0, 2.0, 2.0,
        9.0, 9.0, 1.0, 1.0,
    ];
    let with = |most: f64, count: usize| {
        Case::new(format!("{count} boxes that may share {most}"), |case| {
            let boxes = case.input(reals(DType::F32, &[count, 4], &sides[..4 * count]));
            case.push(Op::Suppress { most }, &[boxes])
        })
    };
    [0.0, 0.5, 0.7, 1.0].into_iter().flat_map(|most| [0, 1, 4, 6].map(|count| with(most, count))).collect()
}

pub(super) fn cases() -> Vec<Case> {
    [regions(), boxes()].into_iter().flatten().collect()
}
