//! The executor: brings a call from step to step, whatever backend runs them.
//!
//! It is a state machine: [`Execution::advance`] goes on as far as it can, and says whether there is something to wait
//! for. Control flow, profile, taps and the wish to stop are here and nowhere else.

use std::{
    borrow::Cow,
    cell::RefCell,
    sync::Arc,
    time::{Duration, Instant},
};

use ondine_graph::{Bindings, Context, Graph, NDArray, Op, Result, Value};

use crate::{
    backend::{Running, Ticket, Wait},
    cancel::Wish,
    fetch::fetched,
    observe::{Moment, Tap},
    plan::{Planner, check_planned},
    profile::{Profile, Sample},
    step::{Copy, Plan, Step, Turns},
};

/// Who looks at a call while it runs.
#[derive(Default)]
pub(crate) struct Watch<'a> {
    pub(crate) tap: Option<&'a mut dyn Tap>,
    /// A wish to stop beside the device's.
    pub(crate) wish: Option<&'a Wish>,
}

impl Watch<'_> {
    fn check(&self, device: &Wish) -> Result<()> {
        device.check()?;
        self.wish.map_or(Ok(()), Wish::check)
    }
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It goes on when what was submitted is done.
    Pending,
    Done,
}

/// What is under way.
enum Frame {
    /// Steps from the first to before the second.
    Steps(usize, usize),
    /// A loop, by its step.
    Loop { step: usize, turns: Arc<Turns>, turn: usize, stage: Stage, start: Option<Instant> },
}

/// What comes next in a turn of a loop.
enum Stage {
    /// Its condition.
    Ask,
    /// What it says.
    Truth,
    /// What was carried on is brought to where the next turn reads it.
    Carry,
}

/// What happens when a ticket is done.
#[derive(Clone, Copy)]
enum Then {
    /// A step of the function has run: it is measured and looked at.
    Look { step: usize, start: Option<Instant> },
    /// A number was measured.
    Settle { step: usize, start: Option<Instant> },
    /// The condition of a loop was told.
    Decide,
    /// All that was submitted is done.
    End,
}

/// A call under way.
pub(crate) struct Execution<'c, 'w, 't> {
    planner: Planner<'c>,
    plan: Arc<Plan>,
    bindings: Cow<'c, Bindings>,
    running: RefCell<Box<dyn Running + 'c>>,
    device: Wish,
    watch: &'w mut Watch<'t>,
    profile: Option<&'w mut Profile>,
    frames: Vec<Frame>,
    waiting: Option<(Ticket, Then)>,
    copies: Vec<Option<NDArray>>,
    /// When it began, if it is profiled: to ask the clock takes as long as a small operator.
    begin: Option<Instant>,
}

impl<'c, 'w, 't> Execution<'c, 'w, 't> {
    pub(crate) fn new(
        planner: Planner<'c>,
        plan: Arc<Plan>,
        bindings: &'c Bindings,
        running: Box<dyn Running + 'c>,
        device: Wish,
        watch: &'w mut Watch<'t>,
        profile: Option<&'w mut Profile>,
    ) -> Result<Self> {
        let frames = vec![Frame::Steps(0, plan.own)];
        let (bindings, running) = (Cow::Borrowed(bindings), RefCell::new(running));
        let begin = profile.is_some().then(Instant::now);
        let mut execution = Self {
            planner,
            plan,
            bindings,
            running,
            device,
            watch,
            profile,
            frames,
            waiting: None,
            copies: Vec::new(),
            begin,
        };
        execution.look(None)?;
        Ok(execution)
    }

    /// Goes on: with [`Wait::Yes`] to the end, else until there is something to wait for.
    ///
    /// # Errors
    /// What a step says, with its place; the first error of a tap; the wish to stop.
    pub(crate) fn advance(&mut self, wait: Wait<'_>) -> Result<Progress> {
        loop {
            if let Some((ticket, then)) = self.waiting.take() {
                let done = self.running.get_mut().poll(ticket, wait);
                if !done.map_err(|fault| fault.located(&self.plan))? {
                    self.waiting = Some((ticket, then));
                    return Ok(Progress::Pending);
                }
                if self.done(ticket, then)? {
                    return Ok(Progress::Done);
                }
            }
            self.watch.check(&self.device)?;
            self.next()?;
        }
    }

    /// Submits what comes next.
    fn next(&mut self) -> Result<()> {
        let Some(frame) = self.frames.last_mut() else {
            // Results without memory of their own are copied while states are what they were.
            let graph = &self.planner.lowered.graph;
            for (position, &(_, value)) in graph.outputs().iter().enumerate() {
                let copied = match self.plan.results[position] {
                    Some(_) => None,
                    None => Some(fetched(graph, &self.plan, &self.running, value)?),
                };
                self.copies.push(copied);
            }
            // States that were not written where they lie.
            let mut last = None;
            for &(from, to, len) in &self.plan.updates {
                last = Some(self.running.get_mut().copy(from, to, len).map_err(|fault| fault.located(&self.plan))?);
            }
            // Nothing is left to be waited for but the last of all.
            let last = match last {
                Some(last) => last,
                None => self.running.get_mut().submit(&self.plan, 0..0).map_err(|fault| fault.located(&self.plan))?,
            };
            self.waiting = Some((last, Then::End));
            return Ok(());
        };
        match frame {
            Frame::Steps(next, end) if next == end => {
                self.frames.pop();
                Ok(())
            }
            Frame::Steps(next, end) => {
                let (next, end) = (*next, *end);
                self.submit(next, end)
            }
            Frame::Loop { .. } => self.turn(),
        }
    }

    /// Submits steps from `next` on, at most up to before `end`.
    fn submit(&mut self, next: usize, end: usize) -> Result<()> {
        let plan = self.plan.clone();
        let own = next < plan.own;
        let start = (own && self.profile.is_some()).then(Instant::now);
        if let Some(turns) = &plan.steps[next].turns {
            for &(from, to, len) in &turns.entry {
                self.copy((from, to, len))?;
            }
            self.advance_steps(1);
            self.frames.push(Frame::Loop { step: next, turns: turns.clone(), turn: 0, stage: Stage::Ask, start });
            return Ok(());
        }
        let alone = own && (self.profile.is_some() || self.watch.tap.is_some());
        let wanted = if alone { 1 } else { self.running.get_mut().batch(next).max(1) };
        // No more are looked at: a backend that takes them one by one would look at all that follow each time.
        let steps = &plan.steps[next..end.min(next.saturating_add(wanted))];
        // Loops are the executor's, and after a measurement the steps change.
        let measures = |step: &Step| own && matches!(step.op, Op::Measure { .. });
        let stop = steps.iter().position(|step| step.turns.is_some()).unwrap_or(steps.len());
        let count = steps[..stop].iter().position(measures).map_or(stop, |measure| measure + 1);
        let ticket = self.running.get_mut().submit(&plan, next..next + count);
        let ticket = ticket.map_err(|fault| fault.located(&self.plan))?;
        self.advance_steps(count);
        let last = next + count - 1;
        if measures(&plan.steps[last]) {
            let len = plan.steps[last].result.dtype.size();
            let ticket = self.running.get_mut().fetch(plan.steps[last].result.place, len);
            let ticket = ticket.map_err(|fault| fault.located(&self.plan))?;
            self.waiting = Some((ticket, Then::Settle { step: last, start }));
        } else if alone {
            self.waiting = Some((ticket, Then::Look { step: last, start }));
        }
        Ok(())
    }

    fn advance_steps(&mut self, count: usize) {
        if let Some(Frame::Steps(next, _)) = self.frames.last_mut() {
            *next += count;
        }
    }

    /// Goes on with the loop on top.
    fn turn(&mut self) -> Result<()> {
        let Some(Frame::Loop { turns, turn, stage, .. }) = self.frames.last_mut() else { return Ok(()) };
        let (turns, side) = (turns.clone(), *turn % 2);
        let side = &turns.sides[side];
        match stage {
            Stage::Ask => {
                *stage = Stage::Truth;
                self.frames.push(Frame::Steps(side.condition.start, side.condition.end));
            }
            Stage::Truth => {
                let ticket = self.running.get_mut().fetch(side.truth, 1).map_err(|fault| fault.located(&self.plan))?;
                self.waiting = Some((ticket, Then::Decide));
            }
            Stage::Carry => {
                *stage = Stage::Ask;
                *turn += 1;
                for &copy in &side.results {
                    self.copy(copy)?;
                }
            }
        }
        Ok(())
    }

    /// Another turn, or the end of the loop on top.
    fn decide(&mut self, goes_on: bool) -> Result<()> {
        let Some(Frame::Loop { step, turns, turn, stage, start }) = self.frames.last_mut() else { return Ok(()) };
        let (step, turns, side, start) = (*step, turns.clone(), *turn % 2, *start);
        if goes_on {
            *stage = Stage::Carry;
            let body = &turns.sides[side].body;
            self.frames.push(Frame::Steps(body.start, body.end));
            return Ok(());
        }
        self.frames.pop();
        if side == 1 {
            for &copy in &turns.back {
                self.copy(copy)?;
            }
        }
        self.measured(step, start);
        if step < self.plan.own && self.watch.tap.is_some() {
            self.look(Some(self.plan.steps[step].value))?;
        }
        Ok(())
    }

    fn copy(&mut self, (from, to, len): Copy) -> Result<()> {
        self.running.get_mut().copy(from, to, len).map(|_| ()).map_err(|fault| fault.located(&self.plan))
    }

    /// What follows a ticket that is done; true at the end of the call.
    fn done(&mut self, ticket: Ticket, then: Then) -> Result<bool> {
        match then {
            Then::End => return Ok(true),
            Then::Decide => {
                let mut truth = [0];
                self.running.get_mut().take(ticket, &mut truth)?;
                self.decide(truth[0] != 0)?;
            }
            Then::Look { step, start } => {
                self.measured(step, start);
                self.look(Some(self.plan.steps[step].value))?;
            }
            Then::Settle { step, start } => {
                let mut count = [0; size_of::<i64>()];
                self.running.get_mut().take(ticket, &mut count)?;
                self.measured(step, start);
                let value = self.plan.steps[step].value;
                if let Op::Measure { size, most } = &self.planner.lowered.graph.node(value).op {
                    let (count, place) = (i64::from_le_bytes(count), || place(&self.planner.lowered.graph, value));
                    check_planned(size, most, count, &self.bindings).at(place)?;
                    self.planner.settle(&mut self.plan, self.bindings.to_mut(), step, count).at(place)?;
                    self.running.get_mut().settled(&self.plan, step + 1)?;
                }
                self.look(Some(value))?;
            }
        }
        Ok(false)
    }

    /// Notes how long a step of the function took.
    fn measured(&mut self, step: usize, start: Option<Instant>) {
        let (Some(profile), Some(start), Some(begin)) = (&mut self.profile, start, self.begin) else { return };
        let step = &self.plan.steps[step];
        profile.samples.push(Sample {
            op: step.op.name().into(),
            scope: step.scope.clone(),
            value: step.value,
            call: profile.calls.len(),
            start: start - begin,
            time: start.elapsed(),
            flops: step.cost.flops,
            bytes: step.cost.bytes,
        });
    }

    fn look(&mut self, value: Option<Value>) -> Result<()> {
        let Some(tap) = &mut self.watch.tap else { return Ok(()) };
        let (graph, plan, running) = (&self.planner.lowered.graph, &*self.plan, &self.running);
        let fetch = |value: Value| fetched(graph, plan, running, value);
        tap.look(&Moment { graph, plan, value, fetch: &fetch })
    }

    /// The plan as it was found, copies of results, and how long the call took if it was profiled.
    pub(crate) fn finish(self) -> (Arc<Plan>, Vec<Option<NDArray>>, Option<Duration>) {
        (self.plan, self.copies, self.begin.map(|begin| begin.elapsed()))
    }
}

fn place(graph: &Graph, value: Value) -> String {
    let node = graph.node(value);
    format!("{} ({})", node.scope, node.op)
}
