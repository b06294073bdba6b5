//! The few array routines of numpy and torch whose rounding the schedules depend on.

/// `numpy.linspace(start, stop, count)`: both ends included, in float64.
pub(crate) fn linspace(start: f64, stop: f64, count: usize) -> Vec<f64> {
    if count < 2 {
        return vec![start; count];
    }
    let step = (stop - start) / (count - 1) as f64;
    let mut values: Vec<f64> = (0..count).map(|i| i as f64 * step + start).collect();
    values[count - 1] = stop;
    values
}

/// `torch.linspace(start, stop, count, dtype=float32)`: counted from the nearer end, fused.
pub(super) fn linspace_f32(start: f32, stop: f32, count: usize) -> Vec<f32> {
    if count < 2 {
        return vec![start; count];
    }
    let step = (stop - start) / (count - 1) as f32;
    let value = |i: usize| {
        if i < count / 2 { step.mul_add(i as f32, start) } else { (-step).mul_add((count - 1 - i) as f32, stop) }
    };
    (0..count).map(value).collect()
}

/// `numpy.interp(x, [0, 1, ...], table)`: linear, held at the ends; 0 for an empty table.
pub(super) fn interpolate(x: f64, table: &[f32]) -> f64 {
    let Some(end) = table.len().checked_sub(1) else { return 0.0 };
    let index = (x.max(0.0) as usize).min(end);
    let low = f64::from(table[index]);
    match table.get(index + 1) {
        Some(&high) if x > 0.0 => (f64::from(high) - low) * (x - index as f64) + low,
        _ => low,
    }
}
