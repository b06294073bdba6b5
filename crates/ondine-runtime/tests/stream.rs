//! Streams and concurrent calls.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use ondine_runtime::{
    Asset, Bytes, DType, Device, ErrorKind, Function, Graph, NDArray, Options, Specialize, State, Stream, Tensor,
    Weights,
};

fn device() -> Device {
    Device::cpu(std::num::NonZeroUsize::new(2)).unwrap()
}

fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(next).collect()
}

/// `layers` layers of `width` x `width` over `x` `[rows, width]`.
fn network(device: &Device, layers: usize, width: usize) -> Function {
    let mut graph = Graph::new();
    let mut x = graph.input("x", DType::F32, [ondine_runtime::Dim::symbol("rows"), width.into()]);
    let mut weights = Weights::default();
    for layer in 0..layers {
        let path = format!("{layer}.weight");
        let weight = graph.weight(&path, &[width, width]).unwrap();
        x = graph.linear(x, weight, None).unwrap();
        x = graph.softmax(x).unwrap();
        let bytes: Vec<u8> = numbers(width * width, layer as u32).iter().flat_map(|x| x.to_le_bytes()).collect();
        let bytes = Bytes::from(bytes.as_slice());
        weights.insert(&path, Tensor { dtype: DType::F32, shape: vec![width; 2], bytes, file: "memory".into() });
    }
    graph.output("y", x);
    let asset = Asset::new("network", [("main", graph)], weights).unwrap();
    asset.specialize(&Options::default(), device, None).unwrap().load().unwrap().function("main").unwrap()
}

/// Adds its input to a state.
fn counter(device: &Device) -> Function {
    let mut graph = Graph::new();
    let x = graph.input("x", DType::F32, [1]);
    let total = graph.state("total", DType::F32, [1]);
    let sum = graph.add(total, x).unwrap();
    graph.update_state("total", sum).unwrap();
    graph.output("sum", sum);
    let asset = Asset::new("counter", [("main", graph)], Weights::default()).unwrap();
    asset.specialize(&Options::default(), device, None).unwrap().load().unwrap().function("main").unwrap()
}

fn one(value: f32) -> NDArray {
    NDArray::new(&[1], &[value]).unwrap()
}

#[cfg(target_os = "linux")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
}

#[test]
fn eight_threads_get_the_same_bits_from_one_copy_of_the_weights() {
    let device = device();
    let (layers, width) = (8, 1024);
    let function = network(&device, layers, width);
    let inputs: Vec<NDArray> =
        (0..8).map(|i| NDArray::new(&[1 + i, width], &numbers((1 + i) * width, 77 + i as u32)).unwrap()).collect();
    let call = |x: &NDArray| function.run(&[("x", x)], &mut State::default()).unwrap().take("y").unwrap();
    let alone: Vec<NDArray> = inputs.iter().map(call).collect();
    #[cfg(target_os = "linux")]
    let before = resident();
    thread::scope(|scope| {
        for (x, alone) in inputs.iter().zip(&alone) {
            scope.spawn(move || (0..5).for_each(|_| assert!(call(x) == *alone)));
        }
    });
    #[cfg(target_os = "linux")]
    {
        let (grown, weights) = (resident().saturating_sub(before), layers * width * width * 4);
        assert!(grown < weights / 2, "{grown} bytes more, with weights of {weights}");
    }
}

#[test]
fn a_stream_keeps_the_order_and_states_are_handed_on() {
    let device = device();
    let (counter, stream) = (counter(&device), Stream::new(&device).unwrap());
    let (a, b) = (Arc::new(Mutex::new(State::default())), Arc::new(Mutex::new(State::default())));
    let calls: Vec<_> =
        (1..=100).map(|i| stream.submit(&counter, [("x", one(i as f32))], if i % 2 == 0 { &a } else { &b })).collect();
    let mut sums = [0.0, 0.0];
    for (i, call) in (1..=100).zip(calls) {
        sums[i % 2] += i as f32;
        assert_eq!(call.wait().unwrap().take("sum").unwrap(), one(sums[i % 2]));
    }
}

#[test]
fn errors_stay_with_their_call() {
    let device = device();
    let (counter, stream) = (counter(&device), Stream::new(&device).unwrap());
    let state = Arc::new(Mutex::new(State::default()));
    let good = stream.submit(&counter, [("x", one(1.0))], &state);
    let bad = stream.submit(&counter, [("y", one(1.0))], &state);
    let foreign = stream.submit(&self::counter(&self::device()), [("x", one(1.0))], &state);
    let mut last = stream.submit(&counter, [("x", one(2.0))], &state);
    assert_eq!(bad.wait().unwrap_err().kind(), ErrorKind::Extra);
    assert_eq!(foreign.wait().unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(good.wait().is_ok());
    stream.finish();
    assert!(last.is_done());
    assert_eq!(last.try_take().unwrap().unwrap().take("sum").unwrap(), one(3.0));
    assert_eq!(last.try_take().unwrap().unwrap_err().kind(), ErrorKind::Missing);
}

#[test]
fn calls_are_cancelled_one_by_one_or_all() {
    let device = device();
    let (network, stream) = (network(&device, 4, 256), Stream::new(&device).unwrap());
    let state = Arc::new(Mutex::new(State::default()));
    let x = || NDArray::new(&[64, 256], &numbers(64 * 256, 1)).unwrap();
    // Nothing runs while somebody holds the state.
    let held = state.lock().unwrap();
    let mut calls: Vec<_> = (0..4).map(|_| stream.submit(&network, [("x", x())], &state)).collect();
    assert!(calls[0].try_take().is_none() && !calls[1].is_done());
    calls[1].cancel();
    drop(held);
    let results: Vec<_> = calls.into_iter().map(|call| call.wait()).collect();
    assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::Cancelled);
    assert!([0, 2, 3].into_iter().all(|i| results[i].is_ok()));

    let held = state.lock().unwrap();
    let calls: Vec<_> = (0..4).map(|_| stream.submit(&network, [("x", x())], &state)).collect();
    stream.cancel();
    let after = stream.submit(&network, [("x", x())], &state);
    drop(held);
    drop(stream);
    assert!(calls.into_iter().all(|call| call.wait().unwrap_err().kind() == ErrorKind::Cancelled));
    assert!(after.wait().is_ok(), "a dropped stream ends what it has begun");
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn results_can_be_awaited_without_any_runtime() {
    let device = device();
    let (counter, stream) = (counter(&device), Stream::new(&device).unwrap());
    let state = Arc::new(Mutex::new(State::default()));
    let held = state.lock().unwrap();
    let work = async {
        let first = stream.submit(&counter, [("x", one(1.0))], &state);
        let second = stream.submit(&counter, [("x", one(2.0))], &state);
        (first.await.unwrap(), second.await.unwrap().take("sum").unwrap()).1
    };
    let mut work = pin!(work);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    assert!(work.as_mut().poll(&mut context).is_pending());
    drop(held);
    let sum = loop {
        match work.as_mut().poll(&mut context) {
            Poll::Ready(sum) => break sum,
            Poll::Pending => thread::park(),
        }
    };
    assert_eq!(sum, one(3.0));
}
