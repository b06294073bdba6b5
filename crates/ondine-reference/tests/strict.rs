//! The strict device: the suite on it, and what happens when it fails.

use std::sync::Arc;

use ondine_graph::{Asset, Context, DType, Dim, ErrorKind, Graph, NDArray, Op, Result, Tensor, Weights};
use ondine_reference::{Reference, suite};
use ondine_runtime::{Cancel, Device, Function, Options, Precision, Specialize, State, backend::Argument};

/// Bytes of a chunk of its memory.
const CHUNK: usize = 1 << 20;

fn device(seed: u64) -> (Reference, Device) {
    let reference = Reference::new(seed, CHUNK);
    (reference.clone(), Device::new(Arc::new(reference)))
}

#[test]
fn operators_do_what_they_mean() {
    for seed in 0..2 {
        let report = suite::suite(&device(seed).1, Precision::F32);
        assert!(report.cases > 1000 && report.failures.is_empty(), "seed {seed}: {report}");
    }
}

/// A function that doubles its argument, looks up rows of a table, and adds them to a state.
fn function(device: &Device) -> Result<Function> {
    let mut graph = Graph::new();
    let (x, rows) =
        (graph.input("x", DType::F32, [Dim::symbol("n"), 2.into()]), graph.input("rows", DType::I64, ["n"]));
    let old = graph.state("sum", DType::F32, [Dim::symbol("n"), 2.into()]);
    let table = graph.weight("table", &[3, 2])?;
    let doubled = graph.affine(x, 2.0, 0.0)?;
    let taken = graph.push(Op::Gather, &[table, rows])?;
    let both = graph.add(doubled, taken)?;
    let sum = graph.add(old, both)?;
    graph.update_state("sum", sum)?;
    graph.output("y", both);
    let bytes: Vec<u8> = (0..6_u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    let mut weights = Weights::default();
    let tensor = Tensor { dtype: DType::F32, shape: vec![3, 2], bytes: bytes[..].into(), file: "memory".into() };
    weights.insert("table", tensor);
    let asset = Asset::new("example", [("main", graph)], weights)?;
    asset.specialize(&Options::default(), device, None)?.load()?.function("main")
}

fn call(function: &Function, rows: [i64; 2], state: &mut State) -> Result<Vec<f32>> {
    let x = NDArray::new(&[2, 2], &[1.0_f32, 2.0, 3.0, 4.0])?;
    let rows = NDArray::new(&[2], &rows)?;
    function.run(&[("x", &x), ("rows", &rows)], state)?.take("y").at(|| "y").map(|y| y.to_f32())
}

#[test]
fn states_stay_on_the_device() {
    let function = function(&device(1).1).unwrap();
    let mut state = State::default();
    assert_eq!(call(&function, [0, 2], &mut state).unwrap(), [2.0, 5.0, 10.0, 13.0]);
    assert_eq!(call(&function, [1, 1], &mut state).unwrap(), [4.0, 7.0, 8.0, 11.0]);
    assert_eq!(state.read("sum").unwrap().to_f32(), [6.0, 12.0, 18.0, 24.0]);
}

#[test]
fn what_a_call_yields_goes_into_the_next_one_as_it_is() {
    let function = function(&device(2).1).unwrap();
    let x = NDArray::new(&[2, 2], &[1.0_f32, 2.0, 3.0, 4.0]).unwrap();
    let rows = NDArray::new(&[2], &[0_i64, 0]).unwrap();
    let mut state = State::default();
    let (x, rows) = (Argument::Host(&x), Argument::Host(&rows));
    let first = function.run_resident(&[("x", x), ("rows", rows)], &mut state).unwrap();
    let again = [("x", Argument::Resident(&first[0])), ("rows", rows)];
    let second = function.run_resident(&again, &mut state).unwrap().pop().unwrap();
    // Each time twice as much, and 0 and 1 of the table's first row.
    assert_eq!(second.into_array().unwrap().to_f32(), [4.0, 11.0, 12.0, 19.0]);
}

#[test]
fn calls_at_the_same_time_do_not_see_each_other() {
    let function = function(&device(4).1).unwrap();
    std::thread::scope(|scope| {
        for row in [0, 1, 2, 0] {
            let function = &function;
            scope.spawn(move || {
                let mut state = State::default();
                for _ in 0..50 {
                    let first = 2.0 * row as f32;
                    let wanted = [2.0 + first, 5.0 + first, 6.0 + first, 9.0 + first];
                    assert_eq!(call(function, [row, row], &mut state).unwrap(), wanted);
                }
                let sum = state.read("sum").unwrap().to_f32();
                assert_eq!(sum[0], 50.0 * (2.0 + 2.0 * row as f32));
            });
        }
    });
}

#[test]
fn an_error_comes_late_and_names_its_step() {
    for seed in 0..20 {
        let function = function(&device(seed).1).unwrap();
        let mut state = State::default();
        let error = call(&function, [0, 3], &mut state).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert!(error.to_string().contains("(gather)"), "{error}");
        // The next call is as good as any.
        assert_eq!(call(&function, [0, 2], &mut state).unwrap(), [2.0, 5.0, 10.0, 13.0], "seed {seed}");
    }
}

#[test]
fn a_lost_device_says_so_until_the_model_is_loaded_again() {
    for steps in 0..4 {
        let (reference, device) = device(steps);
        let lost = function(&device).unwrap();
        let mut state = State::default();
        call(&lost, [0, 1], &mut state).unwrap();
        reference.lose_after(steps);
        assert_eq!(call(&lost, [0, 1], &mut state).unwrap_err().kind(), ErrorKind::Lost, "after {steps} steps");
        assert_eq!(call(&lost, [0, 1], &mut state).unwrap_err().kind(), ErrorKind::Lost);
        assert_eq!(state.read("sum").unwrap_err().kind(), ErrorKind::Lost);
        let again = function(&device).unwrap();
        assert_eq!(call(&again, [0, 2], &mut State::default()).unwrap(), [2.0, 5.0, 10.0, 13.0]);
    }
}

#[test]
fn a_call_that_is_cancelled_leaves_nothing_behind() {
    let (cancel, device) = (Cancel::default(), device(3).1);
    let stopped = function(&device.with_cancel(cancel.clone())).unwrap();
    let mut state = State::default();
    call(&stopped, [0, 0], &mut state).unwrap();
    cancel.cancel();
    call(&stopped, [0, 0], &mut state).unwrap();
    cancel.close();
    assert_eq!(call(&stopped, [0, 0], &mut state).unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn what_fits_no_chunk_is_refused_before_it_runs() {
    let mut graph = Graph::new();
    let x = graph.input("x", DType::F32, ["n"]);
    let y = graph.affine(x, 2.0, 0.0).unwrap();
    graph.output("y", y);
    let asset = Asset::new("example", [("main", graph)], Weights::default()).unwrap();
    let model = asset.specialize(&Options::default(), &device(0).1, None).unwrap().load().unwrap();
    let function = model.function("main").unwrap();
    let run = |n: usize| {
        let x = NDArray::zeros(DType::F32, &[n]).unwrap();
        function.run(&[("x", &x)], &mut State::default()).map(|_| ())
    };
    run(CHUNK / 4).unwrap();
    assert_eq!(run(CHUNK / 4 + 1).unwrap_err().kind(), ErrorKind::Memory);
}
