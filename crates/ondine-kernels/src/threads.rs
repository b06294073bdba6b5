//! A pool of threads for loops whose turns are independent.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long an idle worker looks for work before it sleeps. The kernels of one network follow each other closely:
/// waking a thread would cost more than many of them take.
const SPIN: Duration = Duration::from_micros(100);

/// Multiplications of words, about, that one thread does in the time that sharing them takes: a few microseconds.
const SHARED_WORK: usize = 1 << 18;

/// A loop that takes so long is one that every worker has the time to enter.
const LONG: Duration = Duration::from_micros(30);

/// The bit of [`Shared::gate`] that says that a loop cannot be entered any more.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// No thread but that of the caller.
static ALONE: LazyLock<Pool> = LazyLock::new(|| Pool::new(1));

/// A fixed number of threads that share the turns of a loop; the calling thread is one of them.
///
/// Dropping the pool ends its threads.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held while a loop runs: a second caller waits.
    turn: Mutex<()>,
}

#[derive(Debug)]
struct Shared {
    /// Counts loops; odd once the pool ends. Workers wait for it to change.
    epoch: AtomicU32,
    /// The loop that runs.
    job: Mutex<Option<Job>>,
    /// Turns not yet taken are `next..tasks`.
    next: AtomicUsize,
    /// Workers in the loop that runs, and [`CLOSED`] when it takes no more of them: one that comes late, having slept
    /// or not been given a processor, is not waited for.
    gate: AtomicUsize,
    /// Workers that sleep, or are about to.
    asleep: AtomicUsize,
    /// Workers that have entered the loop that runs.
    helpers: AtomicUsize,
    /// The loop that a worker missed which was awake, see [`Pool::part`].
    missed: AtomicU32,
    /// The first panic of the loop that runs.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Looks at a shared number between two looks at the clock.
const ROUND: u32 = 64;

/// Rounds, some ten microseconds, after which a thread that waits gives way: a young process may have all its threads
/// on one processor, and then the one that waits keeps from running the one that it waits for.
const POLITE: u32 = 16;

type Body<'a> = dyn Fn(usize, usize) + Sync + 'a;

#[derive(Clone, Copy, Debug)]
struct Job {
    tasks: usize,
    body: BodyPointer,
}

/// The body of a loop, whose lifetime [`Pool::run_with`] guards.
#[derive(Clone, Copy)]
struct BodyPointer(*const Body<'static>);

impl std::fmt::Debug for BodyPointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("body")
    }
}

// SAFETY: the body is `Sync`, and `Pool::run_with` returns only when no worker uses it, and none can begin to.
unsafe impl Send for BodyPointer {}

thread_local! {
    /// True inside a turn: loops begun there run on the spot.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Pool {
    /// A pool of `threads` threads, counting the one that calls [`Pool::run`]; 0 is taken as 1.
    ///
    /// If the system gives fewer threads, the pool has fewer.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            epoch: AtomicU32::new(0),
            job: Mutex::new(None),
            next: AtomicUsize::new(0),
            gate: AtomicUsize::new(CLOSED),
            asleep: AtomicUsize::new(0),
            helpers: AtomicUsize::new(0),
            missed: AtomicU32::new(0),
            panic: Mutex::new(None),
        });
        let spawn = |index: usize| {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name(format!("ondine-{index}")).spawn(move || shared.work(index)).ok()
        };
        let workers = (1..threads).map_while(spawn).collect();
        Self { shared, workers, turn: Mutex::new(()) }
    }

    /// The number of threads that share a loop.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// The pool for a loop of so many multiplications of words in all: only the caller's thread if they are few.
    pub(crate) fn for_work(&self, work: usize) -> &Self {
        if work < SHARED_WORK { &ALONE } else { self }
    }

    /// Calls `body(task)` once for each `task` in `0..tasks`, on all threads, and returns when all calls have ended.
    ///
    /// Turns are handed out in ascending order. A loop inside a turn runs on the thread of that turn; loops begun by
    /// several threads follow one another.
    ///
    /// # Panics
    /// If a call panics, with the same payload, once the other threads have stopped.
    pub fn run(&self, tasks: usize, body: &(dyn Fn(usize) + Sync)) {
        self.run_with(tasks, &|task, _| body(task));
    }

    /// Like [`Pool::run`]; `body` also gets the index of the thread, below [`Pool::threads`], for scratch of its own.
    ///
    /// # Panics
    /// Like [`Pool::run`].
    pub fn run_with(&self, tasks: usize, body: &(dyn Fn(usize, usize) + Sync)) {
        if self.workers.is_empty() || tasks <= 1 || INSIDE.get() {
            (0..tasks).for_each(|task| body(task, 0));
            return;
        }
        let _turn = lock(&self.turn);
        let awake = self.workers.len().saturating_sub(self.shared.asleep.load(Ordering::Relaxed));
        let begin = Instant::now();
        self.start(tasks, body);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.shared.take_turns(tasks, body, 0)));
        if outcome.is_err() {
            self.shared.next.store(tasks, Ordering::Relaxed);
        }
        self.finish();
        if self.shared.helpers.load(Ordering::Relaxed) < awake && begin.elapsed() > LONG {
            self.part();
        }
        if let Err(payload) = outcome {
            resume_unwind(payload);
        }
        let panic = lock(&self.shared.panic).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    fn start(&self, tasks: usize, body: &Body<'_>) {
        // SAFETY: only the lifetime changes; `run_with` waits in `finish` until no worker uses the body.
        let body = unsafe { std::mem::transmute::<*const Body<'_>, *const Body<'static>>(body) };
        *lock(&self.shared.job) = Some(Job { tasks, body: BodyPointer(body) });
        *lock(&self.shared.panic) = None;
        self.shared.next.store(0, Ordering::Relaxed);
        self.shared.helpers.store(0, Ordering::Relaxed);
        self.shared.gate.fetch_and(!CLOSED, Ordering::Release);
        self.wake(2);
    }

    /// Lets no worker in any more and waits until those that are have left the loop.
    fn finish(&self) {
        self.shared.gate.fetch_or(CLOSED, Ordering::AcqRel);
        let mut spins = 0_u32;
        while self.shared.gate.load(Ordering::Acquire) != CLOSED {
            spins = spins.saturating_add(1);
            if spins < POLITE * ROUND { std::hint::spin_loop() } else { thread::yield_now() }
        }
    }

    /// Sends workers to sleep that were awake and yet missed a long loop: most likely they wait for the processor that
    /// this thread runs on, and systems are slow to move a thread that is always ready. One that wakes is placed anew.
    fn part(&self) {
        self.shared.missed.store(self.shared.epoch.load(Ordering::Relaxed), Ordering::Release);
        thread::yield_now();
    }

    fn wake(&self, step: u32) {
        self.shared.epoch.fetch_add(step, Ordering::Release);
        self.workers.iter().for_each(|worker| worker.thread().unpark());
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.wake(1);
        for worker in self.workers.drain(..) {
            // A worker's panic has been handed to the caller of its loop.
            drop(worker.join());
        }
    }
}

impl Shared {
    fn work(&self, index: usize) {
        INSIDE.set(true);
        let mut seen = 0;
        loop {
            seen = self.wait(seen);
            if seen % 2 == 1 {
                return;
            }
            let enter = |gate: usize| (gate & CLOSED == 0).then_some(gate + 1);
            if self.gate.fetch_update(Ordering::Acquire, Ordering::Relaxed, enter).is_ok() {
                self.helpers.fetch_add(1, Ordering::Relaxed);
                self.help(index);
                self.gate.fetch_sub(1, Ordering::Release);
            } else if self.missed.load(Ordering::Acquire) == seen {
                self.sleep(seen);
            }
        }
    }

    /// Takes turns of the loop that runs, having entered it.
    fn help(&self, index: usize) {
        let Some(Job { tasks, body }) = *lock(&self.job) else { return };
        // SAFETY: the caller of the loop keeps the body alive until all that have entered it have left.
        let body = unsafe { &*body.0 };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.take_turns(tasks, body, index))) {
            self.next.store(tasks, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(payload);
        }
    }

    /// Waits until the epoch is not `seen`: first awake, then asleep.
    fn wait(&self, seen: u32) -> u32 {
        let start = Instant::now();
        for round in 0_u32.. {
            for _ in 0..ROUND {
                let epoch = self.epoch.load(Ordering::Acquire);
                if epoch != seen {
                    return epoch;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > SPIN {
                self.sleep(seen);
            } else if round > POLITE {
                thread::yield_now();
            }
        }
        seen
    }

    /// Sleeps until the epoch is not `seen`.
    fn sleep(&self, seen: u32) {
        self.asleep.fetch_add(1, Ordering::Relaxed);
        while self.epoch.load(Ordering::Acquire) == seen {
            // Returns at once if there is a call left over from an earlier loop.
            thread::park();
        }
        self.asleep.fetch_sub(1, Ordering::Relaxed);
    }

    fn take_turns(&self, tasks: usize, body: &Body<'_>, index: usize) {
        let outside = INSIDE.replace(true);
        let _restore = Restore(outside);
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                return;
            }
            body(task, index);
        }
    }
}

/// Puts [`INSIDE`] back, also when a turn panics.
struct Restore(bool);

impl Drop for Restore {
    fn drop(&mut self) {
        INSIDE.set(self.0);
    }
}

/// Locks; a panic elsewhere has not left this crate's data half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    fn counts(pool: &Pool, tasks: usize) -> Vec<u64> {
        let counts: Vec<AtomicU64> = (0..tasks).map(|_| AtomicU64::new(0)).collect();
        pool.run(tasks, &|task| {
            counts[task].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicU64::into_inner).collect()
    }

    #[test]
    fn every_turn_is_taken_once() {
        for threads in 0..4 {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads.max(1));
            for tasks in [0, 1, 2, 7, 1000] {
                assert_eq!(counts(&pool, tasks), vec![1; tasks]);
            }
        }
    }

    #[test]
    fn loops_may_nest_and_come_from_several_threads() {
        let pool = Pool::new(3);
        let total = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    pool.run(20, &|_| {
                        pool.run(5, &|_| {
                            total.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                });
            }
        });
        assert_eq!(total.into_inner(), 400);
    }

    #[test]
    fn thread_indices_are_in_range() {
        let pool = Pool::new(3);
        pool.run_with(100, &|_, index| assert!(index < 3));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        for bad in [0, 99] {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(100, &|task| assert_ne!(task, bad, "task {bad}"));
            }));
            assert!(outcome.is_err());
            assert_eq!(counts(&pool, 50), vec![1; 50]);
        }
    }

    #[test]
    fn sleeping_workers_wake() {
        let pool = Pool::new(2);
        for _ in 0..3 {
            thread::sleep(SPIN * 20);
            assert_eq!(counts(&pool, 10), vec![1; 10]);
        }
    }
}
