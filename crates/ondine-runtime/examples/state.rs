//! What a call costs that changes one row of a large state: `cargo run --release -p ondine-runtime --example state`.
//!
//! The state is written where it lies, so the time does not depend on its size.

use std::time::{Duration, Instant};

use ondine_runtime::{
    Asset, DType, Device, Function, Graph, NDArray, Op, Options, Result, Scatter, Specialize, State, Weights,
};

/// Numbers of a row.
const WIDTH: usize = 1024;

fn cache(rows: usize) -> Result<Function> {
    let mut graph = Graph::new();
    let position = graph.input("position", DType::I64, [1]);
    let row = graph.input("row", DType::F32, [1, WIDTH]);
    let cache = graph.state("cache", DType::F32, [rows, WIDTH]);
    let changed = graph.push(Op::Scatter(Scatter::Replace), &[cache, position, row])?;
    graph.update_state("cache", changed)?;
    let read = graph.push(Op::Gather, &[changed, position])?;
    graph.output("row", read);
    let asset = Asset::new("cache", [("main", graph)], Weights::default())?;
    asset.specialize(&Options::default(), &Device::cpu(None)?, None)?.load()?.function("main")
}

/// The median time of a call.
fn time(rows: usize) -> Result<Duration> {
    let (function, mut state) = (cache(rows)?, State::default());
    let row = NDArray::new(&[1, WIDTH], &[1.0_f32; WIDTH])?;
    let mut times = Vec::new();
    for call in 0..20_001 {
        // Rows all over the state, each several times, so that pages are there when they are measured.
        let position = NDArray::new(&[1], &[(call % 64 * (rows / 64)) as i64])?;
        let start = Instant::now();
        function.run(&[("position", &position), ("row", &row)], &mut state)?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn main() -> Result<()> {
    let mut first = None;
    for bytes in [1_usize << 20, 1 << 24, 1 << 27, 1 << 30] {
        let time = time(bytes / (WIDTH * size_of::<f32>()))?;
        let first = *first.get_or_insert(time);
        println!("{:>5} MiB {time:>9.2?} a call, {:.2}x", bytes >> 20, time.as_secs_f64() / first.as_secs_f64());
    }
    Ok(())
}
