//! The plans used last: a function whose sizes vary keeps a few, not all.

use std::sync::Arc;

use ondine_graph::Bindings;

use crate::step::{Plan, Sizes};

/// How many are kept.
const MOST: usize = 16;

/// Plans by the sizes that they are for, the one used last at the end.
#[derive(Debug, Default)]
pub(crate) struct Plans(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    sizes: Sizes,
    plan: Arc<Plan>,
    /// The plan with the sizes that the data of the last call made, until another call takes it.
    settled: Option<Arc<Plan>>,
}

impl Plans {
    /// The plan for these sizes, which becomes the one used last.
    pub(crate) fn get(&mut self, bound: &Bindings) -> Option<Arc<Plan>> {
        self.find(bound, &Bindings::new()).map(|entry| entry.plan.clone())
    }

    /// As [`Plans::get`], for a call that changes the plan as its data tells: the one that the last call left, if there
    /// is one, so that nothing is copied and only what differs is changed.
    pub(crate) fn begin(&mut self, bound: &Bindings, most: &Bindings) -> Option<Arc<Plan>> {
        self.find(bound, most).map(|entry| entry.settled.take().unwrap_or_else(|| entry.plan.clone()))
    }

    /// Keeps the plan that a call leaves.
    pub(crate) fn end(&mut self, plan: Arc<Plan>) {
        if let Some(entry) = self.0.iter_mut().rfind(|entry| entry.plan.id() == plan.id()) {
            entry.settled = Some(plan);
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn find(&mut self, bound: &Bindings, most: &Bindings) -> Option<&mut Entry> {
        let same = |entry: &Entry| entry.sizes.bound == *bound && entry.sizes.most == *most;
        let position = self.0.iter().rposition(same)?;
        self.0[position..].rotate_left(1);
        self.0.last_mut()
    }

    /// Keeps a plan; the one used longest ago goes if there are too many.
    pub(crate) fn insert(&mut self, sizes: Sizes, plan: Arc<Plan>) {
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push(Entry { sizes, plan, settled: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(id: u64) -> Arc<Plan> {
        let none = Vec::new;
        Arc::new(Plan {
            id,
            shapes: Vec::new(),
            places: Vec::new(),
            roots: Vec::new(),
            steps: Vec::new(),
            own: 0,
            arenas: none(),
            results: Vec::new(),
            updates: Vec::new(),
            live: none(),
            changes: Arc::default(),
            found: none(),
        })
    }

    #[test]
    fn the_one_used_longest_ago_goes() {
        let bound = |n: usize| Bindings::from([("n".into(), n)]);
        let sizes = |n: usize| Sizes::from(&bound(n));
        let mut plans = Plans::default();
        for n in 0..MOST {
            plans.insert(sizes(n), plan(n as u64));
        }
        assert_eq!(plans.get(&bound(0)).map(|plan| plan.id), Some(0));
        plans.insert(sizes(MOST), plan(0));
        assert!(plans.get(&bound(0)).is_some() && plans.get(&bound(1)).is_none());
        assert_eq!(plans.0.len(), MOST);
    }
}
