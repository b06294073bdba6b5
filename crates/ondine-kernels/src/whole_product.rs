//! Products of matrices of integers, which no float holds: exact modulo the size of the type.

use crate::{
    number::Lane,
    rowwise::{GRAIN, for_rows},
    threads::Pool,
};

/// The products of `a`, `[batch, rows, inner]`, and `b`, `[batch, inner, columns]` (or `[batch, columns, inner]` if
/// `transposed`): `out` is `[batch, rows, columns]`. Integers wrap around.
///
/// # Panics
/// If a length does not fit.
pub fn whole_matmul<T: Lane>(
    pool: &Pool,
    [rows, inner, columns]: [usize; 3],
    transposed: bool,
    [a, b]: [&[T]; 2],
    out: &mut [T],
) {
    if out.is_empty() {
        return;
    }
    let batch = out.len() / (rows * columns);
    assert_eq!(out.len(), batch * rows * columns, "the output is not matrices of {rows} by {columns}");
    assert_eq!((a.len(), b.len()), (batch * rows * inner, batch * inner * columns), "the operands do not fit");
    let grain = (GRAIN / (inner * columns).max(1)).max(1);
    for_rows(pool, out, columns, grain, |first, out| {
        for (row, out) in (first..).zip(out.chunks_exact_mut(columns)) {
            let a = &a[row * inner..][..inner];
            let b = &b[row / rows * inner * columns..][..inner * columns];
            out.fill(T::default());
            for (k, &a) in a.iter().enumerate() {
                if transposed {
                    out.iter_mut().enumerate().for_each(|(column, out)| *out = out.add(a.mul(b[column * inner + k])));
                } else {
                    out.iter_mut().zip(&b[k * columns..]).for_each(|(out, &b)| *out = out.add(a.mul(b)));
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;

    #[test]
    fn products_are_exact_and_wrap() {
        let cpu = Cpu::new(3).unwrap();
        let size @ [rows, inner, columns] = [3, 5, 4];
        let number =
            |i: usize| (i as i64 * 0x1234_5678_9abc + 1).wrapping_mul(if i.is_multiple_of(2) { 1 } else { -7 });
        let a: Vec<i64> = (0..2 * rows * inner).map(number).collect();
        let b: Vec<i64> = (0..2 * inner * columns).map(|i| number(i + 99)).collect();
        for transposed in [false, true] {
            let mut out = vec![9_i64; 2 * rows * columns];
            whole_matmul(cpu.pool(), size, transposed, [&a, &b], &mut out);
            for (at, &found) in out.iter().enumerate() {
                let (of, row, column) = (at / (rows * columns), at / columns % rows, at % columns);
                let wanted: i128 = (0..inner)
                    .map(|k| {
                        let right = if transposed { column * inner + k } else { k * columns + column };
                        let b = b[of * inner * columns + right];
                        i128::from(a[(of * rows + row) * inner + k]) * i128::from(b)
                    })
                    .sum();
                assert_eq!(found, wanted as i64, "{transposed} {at}");
            }
        }
        let mut nothing = [1_i32; 6];
        whole_matmul(cpu.pool(), [2, 0, 3], false, [&[], &[]], &mut nothing);
        assert_eq!(nothing, [0; 6]);
    }
}
