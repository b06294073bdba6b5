//! The wish to stop.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use ondine_graph::{Result, fail};

/// Asks what runs to stop; clones share the wish.
///
/// A wish belongs to the calls that are under way when it is made: those that begin later run, unless [`Cancel::close`]
/// said that there shall be none.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicU64>);

/// The count of a [`Cancel`] that is closed.
const CLOSED: u64 = u64::MAX;

impl Cancel {
    /// Makes calls that are under way end with [`ErrorKind::Cancelled`](ondine_graph::ErrorKind::Cancelled) before
    /// their next operator.
    pub fn cancel(&self) {
        let next = |count| (count < CLOSED - 1).then(|| count + 1);
        // One that is closed stays so.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Makes calls that are under way and all that begin later end with
    /// [`ErrorKind::Cancelled`](ondine_graph::ErrorKind::Cancelled): for a program that ends.
    pub fn close(&self) {
        self.0.store(CLOSED, Ordering::Relaxed);
    }

    /// True once [`Cancel::close`] was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::Relaxed) == CLOSED
    }

    /// What a call that begins now listens to.
    #[must_use]
    pub fn listen(&self) -> Wish {
        Wish(vec![(self.clone(), self.0.load(Ordering::Relaxed))])
    }
}

/// The wish to stop as one call hears it: of a [`Cancel`], from when it began to listen. A call that is made of others
/// hands its own on to them ([`Function::run_until`](crate::Function::run_until)).
#[derive(Clone, Debug)]
pub struct Wish(Vec<(Cancel, u64)>);

impl Wish {
    /// True once [`Cancel::cancel`] was called since, or [`Cancel::close`] ever.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let changed = |(cancel, begun): &(Cancel, u64)| {
            let now = cancel.0.load(Ordering::Relaxed);
            now != *begun || now == CLOSED
        };
        self.0.iter().any(changed)
    }

    /// Both wishes: either stops the call.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// # Errors
    /// With [`ErrorKind::Cancelled`](ondine_graph::ErrorKind::Cancelled) if it [is cancelled](Wish::is_cancelled).
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            fail!(Cancelled, "stopped on request");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_of_those_who_listen() {
        let cancel = Cancel::default();
        let before = cancel.listen();
        cancel.cancel();
        assert!(before.is_cancelled() && !cancel.is_closed());
        let after = cancel.listen();
        assert!(after.check().is_ok());
        let both = after.clone().or(Cancel::default().listen());
        assert!(!both.is_cancelled());
        cancel.close();
        cancel.cancel();
        assert!(both.is_cancelled());
        assert!(cancel.is_closed() && after.is_cancelled() && cancel.listen().check().is_err());
    }
}
