//! Factors of symmetric matrices that need not be definite: `P L D L' P'`, whose `D` has blocks of one and two
//! (Bunch and Kaufman 1977), and solutions by them.

use ondine_graph::{DType, NDArray, Op, Reduce, Result};

use super::{
    factor::{sizes, turned},
    index::pick,
    linalg::{mirrored, solve},
    product::matmul,
    reduce::reduce,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item},
    formula::Formula,
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("linalg_ldl_factor", ldl_factor),
    Rule::new("linalg_ldl_factor_ex", ldl_factor),
    Rule::new("linalg_ldl_solve", ldl_solve),
];

/// Matrices `[.., n, n]` under way, and the numbers of their rows as a column and as a row.
struct Places {
    rows: Tensor,
    columns: Tensor,
    n: usize,
}

impl Places {
    fn new(builder: &mut Builder, n: usize) -> Result<Self> {
        let numbers: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let (rows, columns) = (NDArray::new(&[n, 1], &numbers)?, NDArray::new(&[n], &numbers)?);
        let (rows, columns) = (builder.graph.constant(rows), builder.graph.constant(columns));
        Ok(Self { rows: builder.plain(rows), columns: builder.plain(columns), n })
    }

    /// Row and column `from` exchanged with row and column `with`, of which there is one for each matrix: `[.., 1, 1]`.
    fn exchanged(&self, builder: &mut Builder, a: &Tensor, from: &Formula, with: &Formula) -> Result<Tensor> {
        let rows = Formula::of(&self.rows);
        let source = rows.equals(from).choose(with, rows.equals(with).choose(from, rows)).build(builder)?;
        let source = builder.cast(&source, DType::I64)?;
        let shape = builder.shape(a);
        let source = builder.expand(&source, &shape)?;
        let moved = pick(builder, a, a.rank() - 2, &source)?;
        pick(builder, &moved, a.rank() - 1, &turned(&source))
    }

    /// Column `at`, of which there is one for each matrix, with its dimension kept.
    fn column(&self, builder: &mut Builder, a: &Tensor, at: &Formula) -> Result<Tensor> {
        let there = Formula::of(&self.columns).equals(at);
        let alone = there.choose(Formula::of(a), 0.0).build(builder)?;
        reduce(builder, Reduce::Sum, &alone, &[a.rank() - 1], true)
    }

    /// Element `at` of a column.
    fn element(&self, builder: &mut Builder, column: &Tensor, at: &Formula) -> Result<Formula> {
        let alone = Formula::of(&self.rows).equals(at).choose(Formula::of(column), 0.0).build(builder)?;
        Ok(Formula::of(&reduce(builder, Reduce::Sum, &alone, &[column.rank() - 2], true)?))
    }

    /// The size of the largest of the elements that count, and where it first is.
    fn largest(&self, builder: &mut Builder, column: &Tensor, count: &Formula) -> Result<[Formula; 2]> {
        let rank = column.rank();
        let size = count.choose(Formula::of(column).abs(), -1.0).build(builder)?;
        let most = reduce(builder, Reduce::Max, &size, &[rank - 2], true)?;
        let size = builder.axis_last(&size, rank - 2)?;
        let value = builder.graph.push(Op::ArgSort { descending: true, keep: 1.into() }, &[size.value])?;
        let place = builder.cast(&Tensor { value, axes: size.axes }, DType::F32)?;
        Ok([Formula::of(&most), Formula::of(&place)])
    }
}

/// What a step of the factorization found: with what row it exchanges, and where two rows are one block.
struct Pivot {
    with: Formula,
    double: Formula,
    /// True where nothing is on and below the diagonal.
    empty: Formula,
}

/// The pivot of step `k`: the diagonal's element, another one, or a block of two.
fn pivot(builder: &mut Builder, places: &Places, a: &Tensor, k: usize) -> Result<Pivot> {
    let (own, rows) = (Formula::from(k as f64), Formula::of(&places.rows));
    let alpha = (1.0 + 17_f64.sqrt()) / 8.0;
    let column = places.column(builder, a, &own)?;
    let head = places.element(builder, &column, &own)?.abs();
    let [most, place] = places.largest(builder, &column, &rows.more(own.clone()))?;
    let other = places.column(builder, a, &place)?;
    let beside = rows.less(own.clone()).or(rows.equals(&place)).not();
    let [most_beside, _] = places.largest(builder, &other, &beside)?;
    let diagonal = places.element(builder, &other, &place)?.abs();
    let empty = head.more(0.0).or(most.more(0.0)).not();
    let enough = &most * alpha;
    let stays = head.less(enough.clone()).not().or((&head * &most_beside).less(&enough * &most).not());
    let single = diagonal.less(&most_beside * alpha).not();
    let double = stays.or(single).not();
    // Nothing is below the last row, and what is all zero stays.
    let stays = if k + 1 == places.n { Formula::from(1.0).more(0.0) } else { stays };
    let double = if k + 1 == places.n { stays.not() } else { double };
    Ok(Pivot { with: stays.choose(own, place), double, empty })
}

/// The factors packed into the lower triangle, the pivots (row numbers from 1 on, negative twice for a block of two),
/// and the first step, from 1 on, that found nothing, or 0.
fn factors(builder: &mut Builder, a: &Tensor) -> Result<[Tensor; 3]> {
    let [n, _] = sizes(builder, a)?;
    let places = Places::new(builder, n)?;
    let mut rest = mirrored(builder, a, false)?;
    let (rows, columns) = (Formula::of(&places.rows), Formula::of(&places.columns));
    let mut packed = rows.less(columns.clone()).choose(0.0, Formula::of(a));
    let mut info = Formula::from(0.0);
    let mut pivots = Formula::from(0.0);
    let mut second = Formula::from(0.0).more(0.0);
    for k in 0..n {
        let (own, next) = (Formula::from(k as f64), Formula::from((k + 1) as f64));
        let Pivot { with, double, empty } = pivot(builder, &places, &rest, k)?;
        let double = double.and(second.not());
        let found = info.equals(0.0).and(empty).and(second.not());
        info = Formula::of(&found.choose((k + 1) as f64, info).build(builder)?);
        let from = double.choose(next.clone(), own.clone());
        let with = second.choose(from.clone(), with);
        let moved = places.exchanged(builder, &rest, &from, &with)?;
        let first = places.column(builder, &moved, &own)?;
        let other = places.column(builder, &moved, &next)?;
        let (d, c) = (places.element(builder, &first, &own)?, places.element(builder, &first, &next)?);
        let e = places.element(builder, &other, &next)?;
        let (first, other) = (Formula::of(&first), Formula::of(&other));
        // Scaled by what is beside the diagonal, which is the largest of a block of two.
        let (de, ee) = (&d / &c, &e / &c);
        let inner = &c * (&de * &ee - 1.0);
        let one_column = d.equals(0.0).choose(0.0, &first / &d);
        let left = double.choose((&ee * &first - &other) / &inner, one_column);
        let right = double.choose((&de * &other - &first) / &inner, 0.0);
        let last = double.choose(next.clone(), own.clone());
        let below = rows.more(last.clone());
        let held = below.choose(left.clone(), first.clone());
        let left = below.choose(left, 0.0).build(builder)?;
        let right = below.choose(right, 0.0).build(builder)?;
        let here = columns.equals(own.clone()).and(rows.less(own.clone()).not()).and(second.not());
        let there = columns.equals(next.clone()).and(rows.more(own.clone())).and(double.clone());
        let held_beside = below.choose(Formula::of(&right), other.clone());
        packed = here.choose(held, there.choose(held_beside, packed));
        packed = Formula::of(&packed.build(builder)?);
        let row = |builder: &mut Builder, column: &Formula| -> Result<Formula> {
            Ok(Formula::of(&turned(&column.build(builder)?)))
        };
        let (first_row, other_row) = (row(builder, &first)?, row(builder, &other)?);
        let taken = Formula::of(&left) * first_row + Formula::of(&right) * other_row;
        let inside = below.and(columns.more(last));
        let less = inside.choose(Formula::of(&moved) - taken, Formula::of(&moved));
        rest = second.choose(Formula::of(&rest), less).build(builder)?;
        let number = &with + 1.0;
        let number = double.choose(-number.clone(), number);
        let here = columns.equals(own).and(second.not());
        let there = columns.equals(next).and(double.clone());
        pivots = Formula::of(&here.or(there).choose(number, pivots).build(builder)?);
        second = double;
    }
    Ok([packed.build(builder)?, pivots.build(builder)?, info.build(builder)?])
}

fn ldl_factor(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let a = call.float_tensor(builder, "self")?;
    let shape = call.out_shape(1)?;
    let nothing = shape.iter().any(|dim| dim.fixed() == Some(0));
    let [packed, pivots, info] = if nothing {
        let none = builder.number(0.0, DType::F32)?;
        [a, builder.expand(&none, &shape)?, none]
    } else {
        factors(builder, &a)?
    };
    let pivots = builder.reshape(&pivots, &shape)?;
    let mut items = vec![Item::Tensor(packed), Item::Tensor(builder.cast(&pivots, call.out_dtype(1)?)?)];
    if call.output_names().len() == 3 {
        let (shape, info) = (call.out_shape(2)?, builder.cast(&info, call.out_dtype(2)?)?);
        let info = if nothing { builder.expand(&info, &shape)? } else { builder.reshape(&info, &shape)? };
        items.push(Item::Tensor(info));
    }
    Ok(items)
}

/// The matrix whose factors these are, from the last block to the first.
fn product(builder: &mut Builder, packed: &Tensor, pivots: &Tensor) -> Result<Tensor> {
    let [n, _] = sizes(builder, packed)?;
    let places = Places::new(builder, n)?;
    let (rows, columns) = (Formula::of(&places.rows), Formula::of(&places.columns));
    let pivots = builder.cast(pivots, DType::F32)?;
    let mut shape = builder.shape(&pivots);
    shape.insert(pivots.rank(), 1.into());
    let pivots = builder.reshape(&pivots, &shape)?;
    let (mut numbers, mut doubles) = (Vec::new(), Vec::<Formula>::new());
    let mut second = Formula::from(0.0).more(0.0);
    for k in 0..n {
        let number = places.element(builder, &pivots, &Formula::from(k as f64))?;
        let first = if k + 1 == n { Formula::from(0.0).more(0.0) } else { number.less(0.0).and(second.not()) };
        numbers.push(number);
        doubles.push(first.clone());
        second = first;
    }
    let whole = Formula::of(packed);
    let mut a = rows.equals(columns.clone()).choose(whole.clone(), 0.0);
    for (k, double) in doubles.iter().enumerate() {
        let own = Formula::from(k as f64);
        let beside = rows.equals((k + 1) as f64).and(columns.equals(own)).and(double.clone());
        a = beside.choose(whole.clone(), a);
    }
    let blocks = a.build(builder)?;
    let mut a = mirrored(builder, &blocks, false)?;
    for k in (0..n).rev() {
        let (own, next) = (Formula::from(k as f64), Formula::from((k + 1) as f64));
        let double = doubles[k].clone();
        let last = double.choose(next.clone(), own.clone());
        let held = columns.equals(own.clone()).and(rows.more(last.clone()));
        let on = rows.equals(columns.clone());
        let lower = held.choose(whole.clone(), on.choose(1.0, 0.0)).build(builder)?;
        let product = matmul(builder, &lower, &a)?;
        a = matmul(builder, &product, &turned(&lower))?;
        // The second of two is exchanged with the first.
        let second = if k == 0 { Formula::from(0.0).more(0.0) } else { doubles[k - 1].clone() };
        let with = second.choose(last.clone(), numbers[k].abs() - 1.0);
        a = places.exchanged(builder, &a, &last, &with)?;
    }
    Ok(a)
}

fn ldl_solve(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (packed, pivots) = (call.float_tensor(builder, "LD")?, call.tensor("pivots")?);
    let b = call.float_tensor(builder, "B")?;
    if call.out_shape(0)?.iter().any(|dim| dim.fixed() == Some(0)) {
        return one(b);
    }
    let a = product(builder, &packed, &pivots)?;
    one(solve(builder, &a, &b)?)
}
