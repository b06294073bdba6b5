//! Calls on several units: what is submitted goes to the unit of each step, one after the other.

use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use ondine_graph::{Result, fail};

use super::unit::{Work, unit_of};
use crate::{
    backend::{Bound, Fault, Loaded, Residency, Running, Ticket, Wait, Workspace},
    step::{Operand, Place, Plan, Region, Step},
};

/// Weights on all units.
#[derive(Debug)]
pub(super) struct Ready {
    units: Vec<Arc<dyn Loaded>>,
    first: Arc<[u8]>,
}

impl Ready {
    pub(super) fn new(units: Vec<Arc<dyn Loaded>>, first: Arc<[u8]>) -> Self {
        Self { units, first }
    }
}

impl Loaded for Ready {
    fn workspace(&self, residency: Residency) -> Result<Box<dyn Workspace>> {
        let units = self.units.iter().map(|unit| unit.workspace(residency)).collect::<Result<_>>()?;
        Ok(Box::new(Rooms { units, first: self.first.clone() }))
    }
}

/// Workspaces of all units.
#[derive(Debug)]
struct Rooms {
    units: Vec<Box<dyn Workspace>>,
    first: Arc<[u8]>,
}

impl Workspace for Rooms {
    fn begin<'c>(&'c mut self, plan: &Arc<Plan>, bound: Bound<'c>) -> Result<Box<dyn Running + 'c>> {
        let Bound { arguments, states, results } = bound;
        let (mut states, mut results) = (Some(states), Some(results));
        let mut units = Vec::with_capacity(self.units.len());
        let plans = of_units(plan, self.units.len(), &self.first);
        for (unit, plan) in self.units.iter_mut().zip(&plans) {
            // States and results are the first unit's.
            let states = states.take().unwrap_or_default();
            let results = results.take().unwrap_or_default();
            units.push(unit.begin(plan, Bound { arguments, states, results })?);
        }
        let (queue, fetched, first) = (VecDeque::new(), BTreeMap::new(), self.first.clone());
        Ok(Box::new(Call { units, plans, first, plan: plan.clone(), queue, fetched, next: 0, done: 0 }))
    }
}

/// The plan as each unit sees it.
fn of_units(plan: &Plan, units: usize, first: &[u8]) -> Vec<Arc<Plan>> {
    (0..units).map(|unit| Arc::new(of_unit(plan, unit, first))).collect()
}

/// The plan as a unit sees it: steps keep their numbers, and those of others write nothing.
fn of_unit(plan: &Plan, unit: usize, first: &[u8]) -> Plan {
    let mut own = plan.clone();
    let begin = usize::from(first[unit]);
    let end = first.get(unit + 1).map_or(plan.arenas.len(), |&end| usize::from(end));
    own.arenas = plan.arenas[begin..end.min(plan.arenas.len())].to_vec();
    let here = |place: Place| match place {
        Place::Arena(region) if unit_of(first, region.space) == unit => {
            Some(Place::Arena(Region { space: region.space - first[unit], ..region }))
        }
        Place::Arena(_) => None,
        Place::State(_) | Place::Result(_) => (unit == 0).then_some(place),
        Place::Input(_) | Place::Packed(_) | Place::Const(_) => Some(place),
    };
    let nowhere = Place::Arena(Region::default());
    for place in &mut own.places {
        *place = here(*place).unwrap_or(nowhere);
    }
    for step in &mut own.steps {
        let runs = unit_of(first, space_of(step)) == unit;
        step.reads.retain_mut(|read| here(read.place).map(|place| read.place = place).is_some() || runs);
        step.result.place = here(step.result.place).unwrap_or(nowhere);
        step.scratch = match here(Place::Arena(step.scratch)) {
            Some(Place::Arena(region)) if runs => region,
            _ => Region::default(),
        };
        if let Some(Work::Step(kernel)) = <dyn Any>::downcast_ref::<Work>(&*step.kernel).filter(|_| runs) {
            step.kernel = kernel.clone();
        }
    }
    if unit != 0 {
        (own.results, own.updates) = (Vec::new(), Vec::new());
    }
    own
}

/// The space that a step works in.
fn space_of(step: &Step) -> u8 {
    match step.result.place {
        Place::Arena(region) => region.space,
        _ => 0,
    }
}

/// Something to do.
enum Task {
    Steps {
        unit: usize,
        steps: Range<usize>,
        ticket: Option<Ticket>,
    },
    /// Carries bytes; to another unit once the first has handed them over.
    Carry {
        from: Place,
        to: Place,
        len: usize,
        step: Option<usize>,
        stage: Stage,
    },
    Fetch {
        from: Place,
        len: usize,
        ticket: Option<Ticket>,
    },
    Write {
        to: Place,
        bytes: Vec<u8>,
        ticket: Option<Ticket>,
    },
}

enum Stage {
    Begin,
    Fetching(Ticket),
    Ending(usize, Ticket),
}

struct Call<'c> {
    units: Vec<Box<dyn Running + 'c>>,
    /// The plan as each unit sees it.
    plans: Vec<Arc<Plan>>,
    first: Arc<[u8]>,
    plan: Arc<Plan>,
    queue: VecDeque<(u64, Task)>,
    fetched: BTreeMap<u64, (usize, Ticket)>,
    /// The last ticket given.
    next: u64,
    /// The last ticket done.
    done: u64,
}

impl Call<'_> {
    fn push(&mut self, task: Task) -> Ticket {
        self.next += 1;
        self.queue.push_back((self.next, task));
        Ticket(self.next)
    }

    /// The unit of a place, and the place as that knows it.
    fn local(&self, place: Place) -> (usize, Place) {
        match place {
            Place::Arena(region) => {
                let unit = unit_of(&self.first, region.space);
                (unit, Place::Arena(Region { space: region.space - self.first[unit], ..region }))
            }
            Place::Input(_) | Place::Packed(_) | Place::Const(_) | Place::State(_) | Place::Result(_) => (0, place),
        }
    }

    /// Goes on with a task; true if it is done.
    fn turn(&mut self, number: u64, task: &mut Task, wait: Wait<'_>) -> Result<bool, Fault> {
        match task {
            Task::Steps { unit, steps, ticket } => {
                let (unit, plan) = (&mut self.units[*unit], &self.plans[*unit]);
                let ticket = match *ticket {
                    Some(ticket) => ticket,
                    None => *ticket.insert(unit.submit(plan, steps.clone())?),
                };
                unit.poll(ticket, wait)
            }
            Task::Fetch { from, len, ticket } => {
                let (unit, from) = self.local(*from);
                let ticket = match *ticket {
                    Some(ticket) => ticket,
                    None => *ticket.insert(self.units[unit].fetch(from, *len)?),
                };
                self.fetched.insert(number, (unit, ticket));
                self.units[unit].poll(ticket, wait)
            }
            Task::Write { to, bytes, ticket } => {
                let (unit, to) = self.local(*to);
                let ticket = match *ticket {
                    Some(ticket) => ticket,
                    None => *ticket.insert(self.units[unit].write(to, bytes)?),
                };
                self.units[unit].poll(ticket, wait)
            }
            Task::Carry { from, to, len, step, stage } => {
                let done = self.carry((*from, *to, *len), stage, wait);
                done.map_err(|fault| Fault { step: fault.step.or(*step), ..fault })
            }
        }
    }

    fn carry(
        &mut self,
        (from, to, len): (Place, Place, usize),
        stage: &mut Stage,
        wait: Wait<'_>,
    ) -> Result<bool, Fault> {
        let ((source, from), (target, to)) = (self.local(from), self.local(to));
        loop {
            match *stage {
                Stage::Begin if source == target => {
                    *stage = Stage::Ending(target, self.units[target].copy(from, to, len)?);
                }
                Stage::Begin => *stage = Stage::Fetching(self.units[source].fetch(from, len)?),
                Stage::Fetching(ticket) => {
                    if !self.units[source].poll(ticket, wait)? {
                        return Ok(false);
                    }
                    let mut bytes = vec![0; len];
                    self.units[source].take(ticket, &mut bytes)?;
                    *stage = Stage::Ending(target, self.units[target].write(to, &bytes)?);
                }
                Stage::Ending(unit, ticket) => return self.units[unit].poll(ticket, wait),
            }
        }
    }
}

impl Running for Call<'_> {
    fn batch(&self, step: usize) -> usize {
        let Some(found) = self.plan.steps.get(step) else { return 1 };
        let unit = unit_of(&self.first, space_of(found));
        let wanted = self.units[unit].batch(step).max(1);
        let same = |step: &&Step| unit_of(&self.first, space_of(step)) == unit;
        self.plan.steps[step..].iter().take(wanted).take_while(same).count().max(1)
    }

    fn submit(&mut self, plan: &Arc<Plan>, steps: Range<usize>) -> Result<Ticket, Fault> {
        let mut last = Ticket(self.next);
        for index in steps {
            let step = &plan.steps[index];
            let unit = unit_of(&self.first, space_of(step));
            let carried = matches!(<dyn Any>::downcast_ref::<Work>(&*step.kernel), Some(Work::Transfer));
            match (carried, step.reads.first(), self.queue.back_mut()) {
                (true, Some(read), _) => {
                    let (from, to, len) = (read.place, step.result.place, bytes_of(&step.result));
                    last = self.push(Task::Carry { from, to, len, step: Some(index), stage: Stage::Begin });
                }
                // One after the other on one unit go together.
                (_, _, Some((number, Task::Steps { unit: same, steps, ticket: None })))
                    if *same == unit && steps.end == index =>
                {
                    steps.end += 1;
                    last = Ticket(*number);
                }
                _ => last = self.push(Task::Steps { unit, steps: index..index + 1, ticket: None }),
            }
        }
        Ok(last)
    }

    fn copy(&mut self, from: Place, to: Place, len: usize) -> Result<Ticket, Fault> {
        Ok(self.push(Task::Carry { from, to, len, step: None, stage: Stage::Begin }))
    }

    fn fetch(&mut self, from: Place, len: usize) -> Result<Ticket, Fault> {
        Ok(self.push(Task::Fetch { from, len, ticket: None }))
    }

    fn write(&mut self, to: Place, bytes: &[u8]) -> Result<Ticket, Fault> {
        Ok(self.push(Task::Write { to, bytes: bytes.to_vec(), ticket: None }))
    }

    fn poll(&mut self, ticket: Ticket, wait: Wait<'_>) -> Result<bool, Fault> {
        while self.done < ticket.0 {
            let Some((number, mut task)) = self.queue.pop_front() else { return Ok(true) };
            let done = self.turn(number, &mut task, wait)?;
            if !done {
                self.queue.push_front((number, task));
                return Ok(false);
            }
            self.done = number;
        }
        Ok(true)
    }

    fn take(&mut self, ticket: Ticket, out: &mut [u8]) -> Result<()> {
        match self.fetched.remove(&ticket.0) {
            Some((unit, inner)) => self.units[unit].take(inner, out),
            None => fail!(Missing, "nothing was fetched under that ticket"),
        }
    }

    fn settled(&mut self, plan: &Arc<Plan>, from: usize) -> Result<()> {
        self.plan = plan.clone();
        self.plans = of_units(plan, self.units.len(), &self.first);
        for (unit, plan) in self.units.iter_mut().zip(&self.plans) {
            unit.settled(plan, from)?;
        }
        Ok(())
    }
}

fn bytes_of(operand: &Operand) -> usize {
    operand.dtype.size() * operand.shape.iter().product::<usize>()
}
