//! Calls in a queue: asynchronous, in order, many in flight.

use std::{
    any::Any,
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak, mpsc},
    task::{Poll, Waker},
    thread::{self, JoinHandle},
};

use crate::{
    cancel::{Cancel, Wish},
    device::Device,
    model::Function,
    state::{Outputs, State},
};
use ondine_graph::{Context, Error, ErrorKind, NDArray, Result, fail};

/// A queue of calls on one device, which a thread of its own runs one after the other in the order of submission.
///
/// [`Stream::submit`] never waits. A call that fails yields its error and leaves the others alone. Calls that share a
/// [`State`] see what earlier ones left in it, as in a loop over [`Function::run`]; calls of several streams share the
/// threads of the device, and weights are never copied.
///
/// Dropping a stream closes it without waiting: what was submitted still runs to its end, in order, and every
/// [`Pending`] stays valid. [`Stream::cancel`] first stops it instead, [`Stream::finish`] waits.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use ondine_runtime::{Asset, DType, Device, Graph, NDArray, Options, Specialize, State, Stream, Weights};
///
/// # fn main() -> ondine_runtime::Result<()> {
/// let mut graph = Graph::new();
/// let x = graph.input("x", DType::F32, [2]);
/// let total = graph.state("total", DType::F32, [2]);
/// let sum = graph.add(total, x)?;
/// graph.update_state("total", sum)?;
/// graph.output("sum", sum);
/// let asset = Asset::new("running sum", [("add", graph)], Weights::default())?;
///
/// let device = Device::cpu(None)?;
/// let add = asset.specialize(&Options::default(), &device, None)?.load()?.function("add")?;
/// let stream = Stream::new(&device)?;
/// let state = Arc::new(Mutex::new(State::default()));
/// let mut calls = Vec::new();
/// for i in 1..=3 {
///     calls.push(stream.submit(&add, [("x", NDArray::new(&[2], &[i as f32, 1.0])?)], &state));
/// }
/// let mut last = calls.pop().expect("three calls").wait()?; // or `.await` in an async function
/// assert_eq!(last.take("sum")?.view::<f32>()?, [6.0, 3.0]);
/// # Ok(())
/// # }
/// ```
pub struct Stream {
    device: Device,
    queue: mpsc::Sender<Job>,
    worker: JoinHandle<()>,
    /// Calls whose results are awaited, to be cancelled.
    calls: Mutex<VecDeque<Weak<Call>>>,
}

struct Job {
    function: Function,
    inputs: Vec<(String, NDArray)>,
    state: Arc<Mutex<State>>,
    call: Arc<Call>,
}

/// What a stream and the one who waits share.
struct Call {
    cancel: Cancel,
    wish: Wish,
    progress: Mutex<Progress>,
    done: Condvar,
}

enum Progress {
    Waiting(Option<Waker>),
    Done(Result<Outputs>),
    Taken,
}

/// The result to come of a call in a [`Stream`]: a future, or something to wait for.
///
/// Dropping it changes nothing: the call still runs, since its state may matter to later ones.
pub struct Pending {
    call: Arc<Call>,
}

impl Stream {
    /// An empty queue on `device`.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn new(device: &Device) -> Result<Self> {
        let (queue, jobs) = mpsc::channel::<Job>();
        let work = move || jobs.into_iter().for_each(Job::run);
        let worker = thread::Builder::new().name("ondine-stream".to_owned()).spawn(work).at(|| "a stream's thread")?;
        Ok(Self { device: device.clone(), queue, worker, calls: Mutex::default() })
    }

    /// Puts a call at the end of the queue: all inputs of `function` by name, as [`Function::run`] wants them.
    ///
    /// The state is locked while the call runs. Hold no lock of it while waiting for one of its calls.
    ///
    /// # Errors
    /// They come with the result: those of [`Function::run`], [`ErrorKind::Cancelled`] after [`Pending::cancel`],
    /// [`ErrorKind::Unsupported`] for a function of another device.
    pub fn submit<N: Into<String>>(
        &self,
        function: &Function,
        inputs: impl IntoIterator<Item = (N, NDArray)>,
        state: &Arc<Mutex<State>>,
    ) -> Pending {
        let cancel = Cancel::default();
        let call = Arc::new(Call {
            wish: cancel.listen(),
            cancel,
            progress: Mutex::new(Progress::Waiting(None)),
            done: Condvar::new(),
        });
        let pending = Pending { call: call.clone() };
        if !function.device().is(&self.device) {
            call.end(Err(Error::new(ErrorKind::Unsupported, "the function runs on another device than the stream")));
            return pending;
        }
        let mut calls = lock(&self.calls);
        while calls.front().is_some_and(|call| call.upgrade().is_none_or(|call| call.is_done())) {
            calls.pop_front();
        }
        calls.push_back(Arc::downgrade(&call));
        let inputs = inputs.into_iter().map(|(name, array)| (name.into(), array)).collect();
        let job = Job { function: function.clone(), inputs, state: state.clone(), call };
        if let Err(mpsc::SendError(job)) = self.queue.send(job) {
            job.call.end(Err(Error::new(ErrorKind::Internal, "the thread of the stream is gone")));
        }
        pending
    }

    /// Stops what runs before its next operator and skips what waits; both end with [`ErrorKind::Cancelled`]. Calls
    /// submitted from now on run.
    pub fn cancel(&self) {
        lock(&self.calls).drain(..).filter_map(|call| call.upgrade()).for_each(|call| call.cancel.cancel());
    }

    /// Waits until every call has ended.
    pub fn finish(self) {
        let Self { queue, worker, .. } = self;
        drop(queue);
        // Panics of calls have become their results.
        let _ = worker.join();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({:?})", self.device)
    }
}

impl Job {
    fn run(self) {
        let Self { function, inputs, state, call } = self;
        let inputs: Vec<(&str, &NDArray)> = inputs.iter().map(|(name, array)| (name.as_str(), array)).collect();
        let body = || {
            call.wish.check()?;
            function.run_until(&inputs, &mut lock(&state), &call.wish)
        };
        // A defect of one call must not end those behind it.
        let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(describe(&*panic)));
        call.end(result);
    }
}

fn describe(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    Error::new(ErrorKind::Internal, format!("the call panicked: {}", text.unwrap_or("for an unknown reason")))
}

impl Call {
    fn end(&self, result: Result<Outputs>) {
        let before = std::mem::replace(&mut *lock(&self.progress), Progress::Done(result));
        self.done.notify_all();
        if let Progress::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }

    fn is_done(&self) -> bool {
        !matches!(*lock(&self.progress), Progress::Waiting(_))
    }
}

/// The result, if it is there and nobody has taken it.
fn take(progress: &mut Progress) -> Option<Result<Outputs>> {
    if let Progress::Waiting(_) = progress {
        return None;
    }
    match std::mem::replace(progress, Progress::Taken) {
        Progress::Done(result) => Some(result),
        _ => Some(taken()),
    }
}

fn taken() -> Result<Outputs> {
    fail!(Missing, "the result of the call was taken before")
}

impl Pending {
    /// Waits for the results.
    ///
    /// # Errors
    /// As [`Stream::submit`] says, and if they were taken before.
    pub fn wait(self) -> Result<Outputs> {
        let mut progress = lock(&self.call.progress);
        loop {
            if let Some(result) = take(&mut progress) {
                return result;
            }
            progress = self.call.done.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The results, if the call has ended.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    pub fn try_take(&mut self) -> Option<Result<Outputs>> {
        take(&mut lock(&self.call.progress))
    }

    /// True once the call has ended, in whatever way.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.call.is_done()
    }

    /// Stops the call before its next operator, or before it begins; a call that has ended keeps its results. Its
    /// state stays as it was before the call.
    pub fn cancel(&self) {
        self.call.cancel.cancel();
    }
}

impl Future for Pending {
    type Output = Result<Outputs>;

    fn poll(self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let mut progress = lock(&self.call.progress);
        if let Progress::Waiting(waker) = &mut *progress {
            *waker = Some(context.waker().clone());
        }
        take(&mut progress).map_or(Poll::Pending, Poll::Ready)
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("done", &self.is_done()).finish()
    }
}

/// Locks; what is guarded here is whole at every moment, whoever panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
