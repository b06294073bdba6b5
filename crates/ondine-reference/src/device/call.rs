//! Calls: what is submitted waits until it is polled for.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use ondine_graph::{Error, ErrorKind, Op, Result};
use ondine_runtime::{
    backend::{Argument, Bound, Fault, Loaded, Memory, Packed, Residency, Running, Space, Ticket, Wait, Workspace},
    step::{Operand, Place, Plan, Region},
};

use super::{
    health::Health,
    memory::Block,
    place::{OWN, is_upload},
    spoil::{dead_regions, regions, spoil},
};
use crate::{evaluate::evaluate, tensor::Tensor};

/// Packed weights on the device.
#[derive(Debug)]
pub(super) struct Resident {
    packed: Arc<Packed>,
    spaces: Box<[Space]>,
    seed: u64,
    health: Arc<Health>,
    since: u64,
}

impl Resident {
    pub(super) fn new(packed: Arc<Packed>, spaces: Box<[Space]>, seed: u64, health: Arc<Health>) -> Self {
        let since = health.now();
        Self { packed, spaces, seed, health, since }
    }
}

impl Loaded for Resident {
    fn workspace(&self, _residency: Residency) -> Result<Box<dyn Workspace>> {
        self.health.check(self.since)?;
        let Self { packed, spaces, seed, health, since } = self;
        let (packed, spaces, health) = (packed.clone(), spaces.clone(), health.clone());
        Ok(Box::new(Room { packed, spaces, chance: *seed, health, since: *since, arenas: Vec::new() }))
    }
}

/// Memory of calls.
#[derive(Debug)]
struct Room {
    packed: Arc<Packed>,
    spaces: Box<[Space]>,
    chance: u64,
    health: Arc<Health>,
    since: u64,
    /// One for each space.
    arenas: Vec<Vec<u8>>,
}

impl Workspace for Room {
    fn begin<'c>(&'c mut self, plan: &Arc<Plan>, bound: Bound<'c>) -> Result<Box<dyn Running + 'c>> {
        self.health.check(self.since)?;
        check_places(plan, &self.spaces)?;
        self.arenas = plan.arenas().iter().map(|&len| vec![0; len]).collect();
        self.arenas.iter_mut().enumerate().for_each(|(space, arena)| spoil(arena, self.chance + space as u64));
        let dead = dead_regions(plan);
        let (queue, fetched) = (VecDeque::new(), BTreeMap::new());
        Ok(Box::new(Call { room: self, bound, dead, queue, fetched, next: 0, done: 0, spoiled: 0, broken: false }))
    }
}

/// Something to do.
#[derive(Debug)]
enum Task {
    Step(usize, Arc<Plan>),
    Copy(Place, Place, usize),
    Fetch(Place, usize),
    Write(Place, Vec<u8>),
}

/// A call under way.
struct Call<'c> {
    room: &'c mut Room,
    bound: Bound<'c>,
    dead: Vec<Vec<Region>>,
    queue: VecDeque<(u64, Task)>,
    fetched: BTreeMap<u64, Vec<u8>>,
    /// The number of the next ticket.
    next: u64,
    /// Tickets below it are done.
    done: u64,
    /// The step to come: what those before it needed last was overwritten.
    spoiled: usize,
    broken: bool,
}

/// A mixing of bits (Steele et al. 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 27)
}

fn defect(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Internal, message)
}

impl Running for Call<'_> {
    fn batch(&self, step: usize) -> usize {
        1 + (mix(self.room.chance ^ step as u64) % 7) as usize
    }

    fn submit(&mut self, plan: &Arc<Plan>, steps: Range<usize>) -> Result<Ticket, Fault> {
        let ticket = self.ticket();
        self.queue.extend(steps.map(|step| (ticket.0, Task::Step(step, plan.clone()))));
        Ok(ticket)
    }

    fn copy(&mut self, from: Place, to: Place, len: usize) -> Result<Ticket, Fault> {
        let ticket = self.ticket();
        self.queue.push_back((ticket.0, Task::Copy(from, to, len)));
        Ok(ticket)
    }

    fn fetch(&mut self, from: Place, len: usize) -> Result<Ticket, Fault> {
        let ticket = self.ticket();
        self.queue.push_back((ticket.0, Task::Fetch(from, len)));
        Ok(ticket)
    }

    fn write(&mut self, to: Place, bytes: &[u8]) -> Result<Ticket, Fault> {
        let ticket = self.ticket();
        self.queue.push_back((ticket.0, Task::Write(to, bytes.to_vec())));
        Ok(ticket)
    }

    fn poll(&mut self, ticket: Ticket, wait: Wait<'_>) -> Result<bool, Fault> {
        if self.broken {
            return Err(defect("a call that failed is polled again").into());
        }
        loop {
            self.turn().inspect_err(|_| self.broken = true)?;
            let first = self.queue.front().map_or(self.next, |(ticket, _)| *ticket);
            self.done = self.done.max(first);
            match wait {
                _ if self.done > ticket.0 => return Ok(true),
                Wait::Yes if self.queue.is_empty() => return Err(defect("a ticket that nobody was given").into()),
                Wait::Yes => {}
                Wait::No => return Ok(false),
                Wait::Wake(waker) => {
                    waker.wake_by_ref();
                    return Ok(false);
                }
            }
        }
    }

    fn take(&mut self, ticket: Ticket, out: &mut [u8]) -> Result<()> {
        self.room.health.check(self.room.since)?;
        let bytes = self.fetched.remove(&ticket.0).ok_or_else(|| defect("nothing was fetched under that ticket"))?;
        if bytes.len() != out.len() {
            return Err(defect(format!("{} bytes where {} were fetched", out.len(), bytes.len())));
        }
        out.copy_from_slice(&bytes);
        Ok(())
    }

    fn settled(&mut self, plan: &Arc<Plan>, from: usize) -> Result<()> {
        if self.queue.iter().any(|(_, task)| matches!(task, Task::Step(step, _) if *step >= from)) {
            return Err(defect("steps were submitted before their sizes were known"));
        }
        for (space, (arena, &len)) in self.room.arenas.iter_mut().zip(plan.arenas()).enumerate() {
            let there = arena.len();
            if there < len {
                // What is found later lies behind the rest.
                let mut more = vec![0; len - there];
                spoil(&mut more, self.room.chance + space as u64);
                arena.extend(more);
            }
        }
        self.dead = dead_regions(plan);
        Ok(())
    }
}

impl Call<'_> {
    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next - 1)
    }

    /// Does the next thing, if there is one.
    fn turn(&mut self) -> Result<(), Fault> {
        self.room.health.check(self.room.since)?;
        let Some((ticket, task)) = self.queue.pop_front() else { return Ok(()) };
        match task {
            Task::Step(step, plan) => {
                self.step(step, &plan).map_err(|error| Fault { step: Some(step), error })?;
            }
            Task::Copy(from, to, len) => {
                let bytes = self.bytes(from, len)?.to_vec();
                self.write_place(to, &bytes)?;
            }
            Task::Write(to, bytes) => self.write_place(to, &bytes)?,
            Task::Fetch(from, len) => {
                let bytes = self.bytes(from, len)?.to_vec();
                self.fetched.insert(ticket, bytes);
            }
        }
        Ok(())
    }

    fn step(&mut self, index: usize, plan: &Arc<Plan>) -> Result<()> {
        self.room.health.step(self.room.since)?;
        let own = index < plan.steps();
        // A loop is no step that is submitted: what it needed last holds nothing since.
        if own && index > self.spoiled {
            self.spoil_after(index - 1)?;
        }
        let step = &plan.all_steps()[index];
        let upload = is_upload(&step.op);
        let mut inputs = Vec::with_capacity(step.reads.len());
        for read in &step.reads {
            if !upload && !self.is_own(read.place) {
                return Err(defect(format!("{} reads {:?}, which is not the device's", step.op, read.place)));
            }
            inputs.push(Tensor::<f64>::from_bytes(read.dtype, &read.shape, self.bytes(read.place, bytes_of(read))?));
        }
        // What it had for itself, and what it is to write, held nothing.
        self.spoil(step.scratch)?;
        let result = match &step.op {
            Op::Native(_) if upload => inputs.swap_remove(0),
            op => evaluate(op, &inputs.iter().collect::<Vec<_>>(), (step.result.dtype, &step.result.shape))?,
        };
        self.write_place(step.result.place, &result.to_bytes())?;
        if own {
            self.spoil_after(index)?;
        }
        Ok(())
    }

    /// True if kernels may read it.
    fn is_own(&self, place: Place) -> bool {
        match place {
            Place::Input(_) | Place::Result(_) => false,
            Place::Arena(region) => region.space == OWN || region.len == 0,
            Place::Packed(_) | Place::Const(_) | Place::State(_) => true,
        }
    }

    /// Overwrites what nobody needs once this step has run.
    fn spoil_after(&mut self, step: usize) -> Result<()> {
        self.spoiled = step + 1;
        std::mem::take(&mut self.dead[step]).into_iter().try_for_each(|region| self.spoil(region))
    }

    fn spoil(&mut self, region: Region) -> Result<()> {
        self.room.chance = mix(self.room.chance);
        let range = range(&self.room.arenas, region)?;
        spoil(&mut self.room.arenas[usize::from(region.space)][range], self.room.chance);
        Ok(())
    }

    /// The first `len` bytes of a place.
    fn bytes(&self, place: Place, len: usize) -> Result<&[u8]> {
        let whole = match place {
            Place::Input(index) => match &self.bound.arguments[index] {
                Argument::Host(array) => array.bytes(),
                Argument::Resident(resident) => block(resident.memory())?.bytes(),
            },
            Place::Packed(index) => {
                let entry = &self.room.packed.entries[index];
                &self.room.packed.bytes[entry.offset..entry.offset + entry.len]
            }
            Place::Const(index) => self.room.packed.constants[index].bytes(),
            Place::State(index) => block(&*self.bound.states[index])?.bytes(),
            Place::Result(index) => match &self.bound.results[index] {
                Some(memory) => block(&**memory)?.bytes(),
                None => return Err(defect("a result without memory")),
            },
            Place::Arena(region) => {
                let range = range(&self.room.arenas, region)?;
                &self.room.arenas[usize::from(region.space)][range]
            }
        };
        whole.get(..len).ok_or_else(|| defect(format!("{len} bytes of {place:?}, which has {}", whole.len())))
    }

    /// Writes all of a place that is written.
    fn write_place(&mut self, place: Place, bytes: &[u8]) -> Result<()> {
        let whole = match place {
            Place::Input(_) | Place::Packed(_) | Place::Const(_) => {
                return Err(defect(format!("{place:?} is not written")));
            }
            Place::State(index) => block_mut(&mut *self.bound.states[index])?.bytes_mut(),
            Place::Result(index) => match &mut self.bound.results[index] {
                Some(memory) => block_mut(&mut **memory)?.bytes_mut(),
                None => return Err(defect("a result without memory")),
            },
            Place::Arena(region) => {
                let range = range(&self.room.arenas, region)?;
                &mut self.room.arenas[usize::from(region.space)][range]
            }
        };
        let size = whole.len();
        let part = whole.get_mut(..bytes.len());
        part.ok_or_else(|| defect(format!("{} bytes into {place:?}, which has {size}", bytes.len())))?
            .copy_from_slice(bytes);
        Ok(())
    }
}

/// Makes sure that everything lies as the spaces demand: aligned, and in one chunk. Loops count in lines of 64 bytes,
/// whatever the space is.
fn check_places(plan: &Plan, spaces: &[Space]) -> Result<()> {
    for step in &plan.all_steps()[..plan.steps()] {
        for region in regions(step) {
            let space = &spaces[usize::from(region.space)];
            let last = region.offset + region.len.next_multiple_of(space.granule) - 1;
            if !region.offset.is_multiple_of(space.align) || region.offset / space.chunk != last / space.chunk {
                return Err(defect(format!("{} has {region:?} in {space:?}", step.op)));
            }
        }
    }
    Ok(())
}

fn bytes_of(operand: &Operand) -> usize {
    operand.dtype.size() * operand.shape.iter().product::<usize>()
}

/// The bytes of a region of its arena.
fn range(arenas: &[Vec<u8>], region: Region) -> Result<Range<usize>> {
    let Region { space, offset, len } = region;
    let arena = arenas.get(usize::from(space)).map_or(0, Vec::len);
    match offset.checked_add(len).filter(|&end| end <= arena) {
        Some(end) => Ok(offset..end),
        None => Err(defect(format!("{region:?} of {arena} bytes"))),
    }
}

fn block(memory: &dyn Memory) -> Result<&Block> {
    memory.as_any().downcast_ref().ok_or_else(|| defect("memory of another device"))
}

fn block_mut(memory: &mut dyn Memory) -> Result<&mut Block> {
    memory.as_any_mut().downcast_mut().ok_or_else(|| defect("memory of another device"))
}
