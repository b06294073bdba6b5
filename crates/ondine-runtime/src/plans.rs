//! The plans used last: a function whose sizes vary keeps a few, not all.

use std::sync::Arc;

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
    pub(crate) fn get(&mut self, sizes: &Sizes) -> Option<Arc<Plan>> {
        self.find(sizes).map(|entry| entry.plan.clone())
    }

    /// As [`Plans::get`], for a call that changes the plan as its data tells: the one that the last call left, if there
    /// is one, so that nothing is copied and only what differs is changed.
    pub(crate) fn begin(&mut self, sizes: &Sizes) -> Option<Arc<Plan>> {
        self.find(sizes).map(|entry| entry.settled.take().unwrap_or_else(|| entry.plan.clone()))
    }

    /// Keeps the plan that a call leaves.
    pub(crate) fn end(&mut self, plan: Arc<Plan>) {
        if let Some(entry) = self.0.iter_mut().rfind(|entry| entry.plan.id() == plan.id()) {
            entry.settled = Some(plan);
        }
    }

    fn find(&mut self, sizes: &Sizes) -> Option<&mut Entry> {
        let position = self.0.iter().rposition(|entry| entry.sizes == *sizes)?;
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
        let sizes = |n: usize| Sizes { bound: [("n".into(), n)].into(), ..Sizes::default() };
        let mut plans = Plans::default();
        for n in 0..MOST {
            plans.insert(sizes(n), plan(n as u64));
        }
        assert_eq!(plans.get(&sizes(0)).map(|plan| plan.id), Some(0));
        plans.insert(sizes(MOST), plan(0));
        assert!(plans.get(&sizes(0)).is_some() && plans.get(&sizes(1)).is_none());
        assert_eq!(plans.0.len(), MOST);
    }
}
