//! Calls on the CPU: places become slices, and a submitted step has run.

use std::{any::Any, ops::Range, sync::Arc};

use ondine_graph::{AlignedBytes, Bytes, Context, Result, fail};

use super::{
    form::Format,
    kernel::CpuKernel,
    operand::{Operand, Target},
    processor::Processor,
    run::run,
};
use crate::{
    backend::{Argument, Bound, Fault, Loaded, Packed, Residency, Running, Ticket, Wait, Workspace},
    step::{self, Place, Plan, Region, Step},
};

/// Packed weights where kernels read them: as they were mapped or packed.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) processor: Processor,
    pub(super) packed: Arc<Packed>,
    /// The bytes of each packed weight.
    pub(super) entries: Vec<Bytes>,
}

impl Weights {
    /// Cuts the packed block.
    ///
    /// # Errors
    /// If an entry is not in it.
    pub(super) fn new(processor: &Processor, packed: &Arc<Packed>) -> Result<Self> {
        let cut = |entry: &crate::backend::PackedWeight| match packed.bytes.slice(entry.offset, entry.len) {
            Some(bytes) => Ok(bytes),
            None => fail!(Format, "a packed weight is not all there"),
        };
        let entries = packed.entries.iter().map(cut).collect::<Result<_>>()?;
        Ok(Self { processor: processor.clone(), packed: packed.clone(), entries })
    }
}

/// What a workspace reads beside its own memory.
#[derive(Debug)]
pub(super) struct Ready(pub(super) Arc<Weights>);

impl Loaded for Ready {
    fn workspace(&self, residency: Residency) -> Result<Box<dyn Workspace>> {
        Ok(Box::new(Arena { weights: self.0.clone(), residency, bytes: AlignedBytes::default() }))
    }
}

/// The memory of calls.
#[derive(Debug)]
struct Arena {
    weights: Arc<Weights>,
    residency: Residency,
    bytes: AlignedBytes,
}

impl Workspace for Arena {
    fn begin<'c>(&'c mut self, plan: &Arc<Plan>, bound: Bound<'c>) -> Result<Box<dyn Running + 'c>> {
        let needed = plan.arenas().first().copied().unwrap_or_default();
        if self.bytes.as_slice().len() < needed {
            // What is there goes first.
            self.bytes = AlignedBytes::default();
            self.bytes = AlignedBytes::try_zeroed(needed)?.in_large_pages();
        }
        let host = |memory: Option<&'c mut [u8]>| match memory {
            Some(bytes) => Ok(bytes),
            None => fail!(Unsupported, "memory of another device"),
        };
        let states = bound.states.iter_mut().map(|memory| host(memory.host_mut())).collect::<Result<Vec<_>>>()?;
        let results = bound.results.iter_mut().map(|memory| match memory {
            Some(memory) => host(memory.host_mut()),
            None => Ok(<&mut [u8]>::default()),
        });
        let results = results.collect::<Result<Vec<_>>>()?;
        let argument = |argument: &Argument<'c>| match argument {
            Argument::Host(array) => Ok(array.bytes()),
            Argument::Resident(resident) => match resident.memory().host() {
                Some(bytes) => Ok(bytes),
                None => fail!(Unsupported, "an argument on another device"),
            },
        };
        let arguments = bound.arguments.iter().map(argument).collect::<Result<Vec<_>>>()?;
        let slices = Slices { weights: &self.weights, arena: &mut self.bytes, arguments, states, results };
        Ok(Box::new(Call { slices, residency: self.residency, next: 0, fetched: Vec::new() }))
    }
}

/// A call: what was submitted has run.
struct Call<'c> {
    slices: Slices<'c>,
    residency: Residency,
    next: u64,
    fetched: Vec<(Ticket, Fetched)>,
}

/// What was fetched: where it lies as long as nothing was submitted since, or a copy.
enum Fetched {
    At(Place, usize),
    Copy(AlignedBytes),
}

impl Call<'_> {
    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    /// Keeps what was fetched and not taken yet from what is to be written.
    fn keep(&mut self) -> Result<()> {
        for (_, fetched) in &mut self.fetched {
            if let Fetched::At(place, len) = *fetched {
                let mut copy = AlignedBytes::try_zeroed(len)?;
                copy.as_mut_slice().copy_from_slice(self.slices.read(place, len)?);
                *fetched = Fetched::Copy(copy);
            }
        }
        Ok(())
    }
}

impl Running for Call<'_> {
    fn submit(&mut self, plan: &Arc<Plan>, steps: Range<usize>) -> Result<Ticket, Fault> {
        self.keep()?;
        for index in steps {
            let step = &plan.all_steps()[index];
            self.slices.step(step).map_err(|error| Fault { step: Some(index), error })?;
            if self.residency == Residency::Window {
                self.slices.forget(step);
            }
        }
        Ok(self.ticket())
    }

    fn copy(&mut self, from: Place, to: Place, len: usize) -> Result<Ticket, Fault> {
        self.keep()?;
        self.slices.copy(from, to, len)?;
        Ok(self.ticket())
    }

    fn fetch(&mut self, from: Place, len: usize) -> Result<Ticket, Fault> {
        let ticket = self.ticket();
        self.fetched.push((ticket, Fetched::At(from, len)));
        Ok(ticket)
    }

    fn write(&mut self, to: Place, bytes: &[u8]) -> Result<Ticket, Fault> {
        self.keep()?;
        self.slices.write(to, bytes)?;
        Ok(self.ticket())
    }

    fn poll(&mut self, _: Ticket, _: Wait<'_>) -> Result<bool, Fault> {
        Ok(true)
    }

    fn take(&mut self, ticket: Ticket, out: &mut [u8]) -> Result<()> {
        let Some(position) = self.fetched.iter().position(|(known, _)| *known == ticket) else {
            fail!(Missing, "nothing was fetched under that ticket");
        };
        let bytes = match &self.fetched[position].1 {
            Fetched::At(place, len) => self.slices.read(*place, *len)?,
            Fetched::Copy(bytes) => bytes.as_slice(),
        };
        let Some(bytes) = bytes.get(..out.len()) else { fail!(Shape, "{} bytes were fetched", bytes.len()) };
        out.copy_from_slice(bytes);
        self.fetched.swap_remove(position);
        Ok(())
    }

    fn settled(&mut self, plan: &Arc<Plan>, _: usize) -> Result<()> {
        let needed = plan.arenas().first().copied().unwrap_or_default();
        if self.slices.arena.as_slice().len() < needed {
            let mut more = AlignedBytes::try_zeroed(needed)?;
            let there = self.slices.arena.as_slice();
            more.as_mut_slice()[..there.len()].copy_from_slice(there);
            *self.slices.arena = more;
        }
        Ok(())
    }
}

/// All memory of a call.
struct Slices<'c> {
    weights: &'c Weights,
    arena: &'c mut AlignedBytes,
    arguments: Vec<&'c [u8]>,
    states: Vec<&'c mut [u8]>,
    results: Vec<&'c mut [u8]>,
}

impl<'c> Slices<'c> {
    fn step(&mut self, step: &Step) -> Result<()> {
        let Some(kernel) = <dyn Any>::downcast_ref::<CpuKernel>(&*step.kernel) else {
            fail!(Unsupported, "a step that was prepared by another backend");
        };
        // What is written elsewhere than in the workspace is taken out while it is.
        let (mut outside, region) = match step.result.place {
            Place::Arena(region) => (None, region),
            Place::State(slot) => (Some(std::mem::take(&mut self.states[slot])), Region::default()),
            Place::Result(position) => (Some(std::mem::take(&mut self.results[position])), Region::default()),
            Place::Input(_) | Place::Packed(_) | Place::Const(_) => {
                fail!(Unsupported, "a result that is written where nothing may be")
            }
        };
        let done = {
            let cut = Cut::new(self.arena.as_mut_slice(), [region, step.scratch]);
            let [result, scratch] = cut.taken;
            let bytes = match &mut outside {
                Some(bytes) => &mut **bytes,
                None => result,
            };
            let others = Others {
                weights: self.weights,
                arena: &cut.rest,
                arguments: &self.arguments,
                states: &self.states,
                results: &self.results,
            };
            others.run(step, kernel, bytes, scratch)
        };
        match (step.result.place, outside) {
            (Place::State(slot), Some(bytes)) => self.states[slot] = bytes,
            (Place::Result(position), Some(bytes)) => self.results[position] = bytes,
            _ => {}
        }
        done
    }

    /// The first `len` bytes at a place.
    fn read(&self, place: Place, len: usize) -> Result<&[u8]> {
        if let Place::Arena(region) = place {
            if region.len < len {
                fail!(Shape, "{len} bytes are more than there are at {place:?}");
            }
            return find(&[(0, self.arena.as_slice())], region.part(0, len));
        }
        let others = Others {
            weights: self.weights,
            arena: &[],
            arguments: &self.arguments,
            states: &self.states,
            results: &self.results,
        };
        match others.at(place)?.get(..len) {
            Some(bytes) => Ok(bytes),
            None => fail!(Shape, "{len} bytes are more than there are at {place:?}"),
        }
    }

    fn copy(&mut self, from: Place, to: Place, len: usize) -> Result<()> {
        if let (Place::Arena(from), Place::Arena(to)) = (from, to) {
            self.arena.as_mut_slice().copy_within(from.offset..from.offset + len, to.offset);
            return Ok(());
        }
        if let Place::Arena(Region { offset, len: room, .. }) = to {
            let others = Others {
                weights: self.weights,
                arena: &[],
                arguments: &self.arguments,
                states: &self.states,
                results: &self.results,
            };
            let bytes = others.at(from)?;
            return fill(&mut self.arena.as_mut_slice()[offset..offset + room], &bytes[..len.min(bytes.len())]);
        }
        // What is written is taken out while the rest is read.
        let outside = std::mem::take(self.outside(to)?);
        let copied = self.read(from, len).and_then(|bytes| fill(outside, bytes));
        *self.outside(to)? = outside;
        copied
    }

    fn write(&mut self, to: Place, bytes: &[u8]) -> Result<()> {
        match to {
            Place::Arena(Region { offset, len, .. }) => {
                fill(&mut self.arena.as_mut_slice()[offset..offset + len], bytes)
            }
            to => fill(self.outside(to)?, bytes),
        }
    }

    /// What may be written beside the workspace.
    fn outside(&mut self, place: Place) -> Result<&mut &'c mut [u8]> {
        match place {
            Place::State(slot) => Ok(&mut self.states[slot]),
            Place::Result(position) => Ok(&mut self.results[position]),
            Place::Input(_) | Place::Packed(_) | Place::Const(_) | Place::Arena(_) => {
                fail!(Unsupported, "{place:?} is not to be written")
            }
        }
    }

    /// Lets go of the pages of the weights that a step used.
    fn forget(&self, step: &Step) {
        for read in &step.reads {
            if let Place::Packed(entry) = read.place {
                self.weights.entries[entry].forget();
            }
        }
    }
}

/// Writes the first bytes of a place.
fn fill(out: &mut [u8], bytes: &[u8]) -> Result<()> {
    let len = out.len();
    match out.get_mut(..bytes.len()) {
        Some(out) => out.copy_from_slice(bytes),
        None => fail!(Shape, "{} bytes do not fit {len}", bytes.len()),
    }
    Ok(())
}

/// What a step may read.
struct Others<'a> {
    weights: &'a Weights,
    /// Pieces of the workspace, each with its position.
    arena: &'a [(usize, &'a [u8])],
    arguments: &'a [&'a [u8]],
    states: &'a [&'a mut [u8]],
    results: &'a [&'a mut [u8]],
}

impl<'a> Others<'a> {
    fn run(&self, step: &Step, kernel: &CpuKernel, bytes: &mut [u8], scratch: &mut [u8]) -> Result<()> {
        let mut operands = Vec::with_capacity(step.reads.len());
        for (position, read) in step.reads.iter().enumerate() {
            let format = kernel.formats.get(position).copied().flatten();
            let in_place = step.in_place == Some(position);
            operands.push(self.operand(read, format, in_place).at(|| format!("input {position}"))?);
        }
        let mut target = Target { dtype: step.result.dtype, shape: &step.result.shape, bytes };
        run(&step.op, kernel, &operands, step.in_place.is_some(), &mut target, scratch, &self.weights.processor)
    }

    fn operand<'s>(&self, read: &'s step::Operand, format: Option<Format>, in_place: bool) -> Result<Operand<'s>>
    where
        'a: 's,
    {
        let bytes = match read.place {
            _ if in_place => <&[u8]>::default(),
            Place::Packed(_) => self.at(read.place)?,
            // The first rows of a state are less than what they lie in.
            place => {
                let (all, len) = (self.at(place)?, read.dtype.size() * read.shape.iter().product::<usize>());
                all.get(..len).unwrap_or(all)
            }
        };
        Ok(Operand { dtype: read.dtype, shape: &read.shape, bytes, format })
    }

    fn at(&self, place: Place) -> Result<&'a [u8]> {
        Ok(match place {
            Place::Arena(region) => return find(self.arena, region),
            Place::Input(position) => self.arguments[position],
            Place::Packed(entry) => &self.weights.entries[entry],
            Place::Const(position) => self.weights.packed.constants[position].bytes(),
            Place::State(slot) => &*self.states[slot],
            Place::Result(position) => &*self.results[position],
        })
    }
}

/// The workspace cut into what a step writes and what is left to read.
struct Cut<'a> {
    taken: [&'a mut [u8]; 2],
    rest: [(usize, &'a [u8]); 3],
}

impl<'a> Cut<'a> {
    /// Cuts `regions`, which do not overlap, out of `arena`.
    fn new(mut arena: &'a mut [u8], mut regions: [Region; 2]) -> Self {
        let swapped = (regions[0].offset, regions[0].len) > (regions[1].offset, regions[1].len);
        if swapped {
            regions.swap(0, 1);
        }
        // What is empty is aligned all the same, as kernels expect of their numbers.
        let mut taken = std::array::from_fn(|_| arena.split_off_mut(..0).unwrap_or_default());
        let mut rest = [(0, &*arena.split_off_mut(..0).unwrap_or_default()); 3];
        let mut position = 0;
        for (i, Region { offset, len, .. }) in regions.into_iter().enumerate() {
            if len == 0 {
                continue;
            }
            let (before, tail) = arena.split_at_mut(offset - position);
            let (part, tail) = tail.split_at_mut(len);
            rest[i] = (position, &*before);
            taken[i] = part;
            arena = tail;
            position = offset + len;
        }
        rest[2] = (position, &*arena);
        if swapped {
            taken.swap(0, 1);
        }
        Self { taken, rest }
    }
}

/// The bytes of `region` among the pieces of the workspace; each piece comes with its position.
fn find<'a>(pieces: &[(usize, &'a [u8])], region: Region) -> Result<&'a [u8]> {
    let holds =
        |(start, piece): &&(usize, &[u8])| *start <= region.offset && region.offset + region.len <= start + piece.len();
    match pieces.iter().find(holds) {
        Some((start, piece)) => Ok(&piece[region.offset - start..][..region.len]),
        None => fail!(Memory, "what a step reads overlaps what it writes"),
    }
}
