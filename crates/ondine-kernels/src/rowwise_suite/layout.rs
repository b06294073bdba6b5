//! Elements moved: where each comes from.

use super::{BROADCASTS, broadcast, everywhere, view};
use crate::{Cpu, IndexError, dense_strides, suite::cpus};

fn bytes<const SIZE: usize>(elements: &[[u8; SIZE]]) -> &[u8] {
    elements.as_flattened()
}

/// Elements that tell where they come from.
fn marked<const SIZE: usize>(count: usize) -> Vec<[u8; SIZE]> {
    (1..=count as u64).map(|i| std::array::from_fn(|byte| (i.wrapping_mul(0x9e37_79b9) >> (8 * byte)) as u8)).collect()
}

fn check_views<const SIZE: usize>() {
    let permutations: [(&[usize], &[usize]); 17] = [
        (&[], &[]),
        (&[5], &[0]),
        (&[3, 4], &[1, 0]),
        (&[70, 133], &[1, 0]),
        (&[2, 3, 5, 7], &[0, 2, 3, 1]),
        (&[2, 64, 17, 33], &[0, 3, 1, 2]),
        (&[2, 3, 71, 133], &[0, 2, 3, 1]),
        (&[3, 4, 999], &[0, 2, 1]),
        (&[2, 1003], &[1, 0]),
        (&[4, 33, 20], &[2, 1, 0]),
        (&[2, 3, 4, 5, 6], &[4, 2, 0, 3, 1]),
        (&[2, 77, 12, 64], &[0, 2, 1, 3]),
        (&[1, 320, 16, 16], &[0, 2, 3, 1]),
        (&[3, 0, 2], &[2, 0, 1]),
        (&[2, 9, 7, 3, 4, 4], &[0, 3, 1, 4, 2, 5]),
        (&[5, 33, 2], &[1, 0, 2]),
        (&[3, 6, 5, 8], &[2, 1, 0, 3]),
    ];
    for (shape, axes) in permutations {
        let x = marked::<SIZE>(shape.iter().product());
        let strides = dense_strides(shape);
        let permuted: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
        let want = view(&x, &permuted, &axes.iter().map(|&axis| strides[axis]).collect::<Vec<_>>());
        let run = |cpu: &Cpu, out: &mut [u8]| crate::permute(cpu.pool(), SIZE, shape, axes, bytes(&x), out);
        everywhere(x.len() * SIZE, run, |out| assert!(out == bytes(&want), "{shape:?} by {axes:?}"));
    }
    for [from, _, to] in BROADCASTS {
        let x = marked::<SIZE>(from.iter().product());
        let want = broadcast(&x, from, to);
        let run = |cpu: &Cpu, out: &mut [u8]| crate::expand(cpu.pool(), SIZE, from, to, bytes(&x), out);
        everywhere(want.len() * SIZE, run, |out| assert_eq!(out, bytes(&want)));
    }
    let shape = [6, 90, 131];
    let x = marked::<SIZE>(6 * 90 * 131);
    for (axis, range) in [(0, 2..5), (1, 0..90), (1, 89..90), (2, 1..130), (2, 7..8), (1, 90..90)] {
        let strides = dense_strides(&shape);
        let mut cut = shape;
        cut[axis] = range.len();
        let want = if range.is_empty() { vec![] } else { view(&x[range.start * strides[axis]..], &cut, &strides) };
        let run = |cpu: &Cpu, out: &mut [u8]| {
            crate::slice(cpu.pool(), SIZE, &shape, axis, range.clone(), bytes(&x), out);
        };
        everywhere(want.len() * SIZE, run, |out| assert_eq!(out, bytes(&want)));
    }
}

#[test]
fn views_are_copied() {
    check_views::<1>();
    check_views::<2>();
    check_views::<4>();
    check_views::<8>();
}

#[test]
fn padding_surrounds_with_zeros() {
    let cases: [(&[usize], &[[usize; 2]]); 6] = [
        (&[], &[]),
        (&[3], &[[2, 1]]),
        (&[2, 3], &[[1, 0], [0, 2]]),
        (&[2, 5, 4, 3], &[[0, 0], [1, 1], [2, 0], [0, 0]]),
        (&[1, 64, 64, 16], &[[0, 0], [1, 1], [1, 1], [0, 0]]),
        (&[2, 0, 2], &[[0, 0], [1, 1], [0, 1]]),
    ];
    for (shape, amounts) in cases {
        let x = marked::<2>(shape.iter().product());
        let target: Vec<usize> =
            shape.iter().zip(amounts).map(|(size, [before, after])| before + size + after).collect();
        let mut want = vec![[0; 2]; target.iter().product()];
        let (from, to) = (dense_strides(shape), dense_strides(&target));
        for (i, x) in x.iter().enumerate() {
            let place = |axis: usize| (i / from[axis] % shape[axis] + amounts[axis][0]) * to[axis];
            want[(0..shape.len()).map(place).sum::<usize>()] = *x;
        }
        let run = |cpu: &Cpu, out: &mut [u8]| crate::pad(cpu.pool(), 2, shape, amounts, bytes(&x), out);
        everywhere(want.len() * 2, run, |out| assert_eq!(out, bytes(&want), "{shape:?} padded by {amounts:?}"));
    }
}

#[test]
fn parts_are_joined() {
    let run = |cpu: &Cpu, out: &mut [u8]| crate::concat(cpu.pool(), 2, &[&[1, 2], &[], &[3, 4, 5, 6]], out);
    everywhere(6, run, |out| assert_eq!(out, [1, 3, 4, 2, 5, 6]));
    let (a, b) = (vec![1; 300 * 128], vec![2; 300 * 256]);
    let run = |cpu: &Cpu, out: &mut [u8]| crate::concat(cpu.pool(), 300, &[&a, &b], out);
    everywhere(300 * 384, run, |out| assert!(out.iter().enumerate().all(|(i, &x)| x == 1 + u8::from(i % 384 >= 128))));
}

#[test]
fn rows_are_looked_up() {
    let table = marked::<4>(1000);
    let indices: Vec<i64> = (0..20_000).map(|i| i * 7 % 500).collect();
    let run = |cpu: &Cpu, out: &mut [u8]| {
        crate::gather_rows(cpu.pool(), 8, bytes(&table), &indices, out).unwrap();
    };
    everywhere(20_000 * 8, run, |out| {
        for (out, &index) in out.chunks(8).zip(&indices) {
            assert_eq!(out, bytes(&table[2 * index as usize..][..2]));
        }
    });
    for bad in [500, -1, i64::MIN] {
        let error = crate::gather_rows(cpus()[0].pool(), 8, bytes(&table), &[3, bad], &mut [0; 16]).unwrap_err();
        assert_eq!(error, IndexError { index: bad, position: 1, rows: 500 });
    }
    let mut out = [0; 4];
    crate::take_row(3, 2, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], &[2, 0], &mut out).unwrap();
    assert_eq!(out, [4, 5, 6, 7]);
    let error = crate::take_row(3, 2, &[0; 12], &[2, 3], &mut out).unwrap_err();
    assert_eq!(error.to_string(), "index 3 at position 1 is not in a table of 3 rows");
}
