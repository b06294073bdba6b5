//! What ten thousand calls with ten thousand sizes leave in memory: `cargo run --release -p ondine-runtime --example
//! sizes`.
//!
//! Plans are kept for the sizes used last, not for all. Linux only: it reads `/proc/self/statm`.

use ondine_runtime::{Asset, DType, Device, Dim, Graph, NDArray, Options, Result, Specialize, State, Unary, Weights};

/// Pages of this process that are in memory, in KiB.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4
}

fn main() -> Result<()> {
    let mut graph = Graph::new();
    let mut x = graph.input("x", DType::F32, [Dim::symbol("n"), 4.into()]);
    for _ in 0..200 {
        x = graph.unary(Unary::Neg, x)?;
    }
    graph.output("x", x);
    let asset = Asset::new("chain", [("main", graph)], Weights::default())?;
    let function = asset.specialize(&Options::default(), &Device::cpu(None)?, None)?.load()?.function("main")?;
    let mut state = State::default();
    // The largest size first: what grows afterwards is not the workspace.
    let sizes = std::iter::once(10_000).chain(1..10_000);
    let mut first = 0;
    for (call, n) in sizes.enumerate() {
        let x = NDArray::zeros(DType::F32, &[n, 4])?;
        function.run(&[("x", &x)], &mut state)?;
        if call == 99 {
            first = resident();
        }
    }
    let last = resident();
    println!("resident after 100 calls {first} KiB, after 10000 {last} KiB: {:.3}x", last as f64 / first.max(1) as f64);
    Ok(())
}
