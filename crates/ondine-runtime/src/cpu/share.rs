//! Work on the threads of the pool, for what is done once and not by kernels.

use std::sync::{Mutex, PoisonError};

use super::processor::Processor;

/// What `make` yields for each of `0..count`, in order.
pub(crate) fn map<T: Send>(processor: &Processor, count: usize, make: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let slots: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
    processor.cpu.pool().run(count, &|index| {
        let made = make(index);
        *slots[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
    });
    let made = |slot: Mutex<Option<T>>| slot.into_inner().unwrap_or_else(PoisonError::into_inner);
    slots.into_iter().filter_map(made).collect()
}

/// Calls `body` with each row of `width` elements and its index.
pub(crate) fn map_rows<T: Send>(
    processor: &Processor,
    rows: &mut [T],
    width: usize,
    body: impl Fn(usize, &mut [T]) + Sync,
) {
    let rows: Vec<Mutex<&mut [T]>> = rows.chunks_mut(width.max(1)).map(Mutex::new).collect();
    processor.cpu.pool().run(rows.len(), &|index| {
        body(index, &mut rows[index].lock().unwrap_or_else(PoisonError::into_inner));
    });
}
