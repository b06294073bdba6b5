//! Indices of tensors in row-major order.

/// The number of elements.
pub(crate) fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Elements from one index of a dimension to the next.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// What `visit` makes of every index of `shape`, in order.
pub(crate) fn map_indices<T>(shape: &[usize], mut visit: impl FnMut(&[usize]) -> T) -> Vec<T> {
    let mut index = vec![0; shape.len()];
    let mut all = Vec::with_capacity(count(shape));
    for _ in 0..count(shape) {
        all.push(visit(&index));
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    all
}

/// The element at `index`.
pub(crate) fn position(index: &[usize], strides: &[usize]) -> usize {
    index.iter().zip(strides).map(|(index, stride)| index * stride).sum()
}

/// For each element of `shape`, the one of a tensor of shape `from` that is repeated there.
pub(crate) fn repeated(from: &[usize], shape: &[usize]) -> Vec<usize> {
    let missing = shape.len() - from.len();
    let own = strides(from);
    let stride = |axis: usize| match axis.checked_sub(missing) {
        Some(axis) if from[axis] != 1 => own[axis],
        _ => 0,
    };
    let strides: Vec<usize> = (0..shape.len()).map(stride).collect();
    map_indices(shape, |index| position(index, &strides))
}

/// A shape around one dimension: the product of those before, its size, and the product of those behind.
pub(crate) fn around(shape: &[usize], axis: usize) -> [usize; 3] {
    [count(&shape[..axis]), shape[axis], count(&shape[axis + 1..])]
}

/// What of a shape is not its last dimension, and that.
pub(crate) fn rows(shape: &[usize]) -> (usize, usize) {
    shape.split_last().map_or((1, 1), |(&width, outer)| (count(outer), width))
}
