//! Calls as a trace in Chrome's format: modules as slices that hold those of their operators, and the workspace in use.

use serde_json::{Value, json};

use super::measure::{Measured, NodeTime};

/// The file. Times are in microseconds; operators run one after the other, each on all threads.
pub(super) fn events(measured: &Measured) -> Value {
    let mut events = vec![
        json!({"ph": "M", "pid": 1, "name": "process_name", "args": {"name": format!("ondine {}", measured.model)}}),
        json!({"ph": "M", "pid": 1, "tid": 1, "name": "thread_name",
            "args": {"name": format!("operators, on {} threads each", measured.threads)}}),
    ];
    let mut begin = 0.0;
    for (call, seconds) in measured.calls.iter().enumerate() {
        let name = format!("{} #{}", measured.function, call + 1);
        events.push(slice(&name, "call", (begin, *seconds), &json!({})));
        modules(measured, call, begin, &mut events);
        for node in &measured.nodes {
            operator(measured, node, call, begin, &mut events);
        }
        let end = json!({"ph": "C", "pid": 1, "name": "workspace in use", "ts": 1e6 * (begin + seconds), "args": {"bytes": 0}});
        events.push(end);
        // Calls follow each other; what lies between them is not measured.
        begin += seconds + 1e-5;
    }
    json!({"displayTimeUnit": "ms", "traceEvents": events})
}

fn slice(name: &str, category: &str, (start, seconds): (f64, f64), args: &Value) -> Value {
    json!({
        "ph": "X", "pid": 1, "tid": 1, "name": name, "cat": category,
        "ts": 1e6 * start, "dur": 1e6 * seconds, "args": args,
    })
}

fn operator(measured: &Measured, node: &NodeTime, call: usize, begin: f64, events: &mut Vec<Value>) {
    let Some(&(start, seconds)) = node.times.get(call) else { return };
    let start = begin + start;
    let line = node.line.as_ref().map(|line| format!("{}:{} {}", line.file, line.line, line.text));
    let mut args = json!({
        "operator": &*node.op, "module": node.module, "shape": node.shape, "python": line, "bytes": node.sum.bytes,
    });
    if node.sum.flops > 0.0 && seconds > 0.0 {
        args["gflop"] = (node.sum.flops / 1e9).into();
        args["gflops"] = (node.sum.flops / 1e9 / seconds).into();
        args["fraction_of_peak"] = (node.sum.flops / seconds / measured.limits().0).into();
    }
    events.push(slice(&node.name, &node.op, (start, seconds), &args));
    let args = json!({ "bytes": node.live });
    events.push(json!({"ph": "C", "pid": 1, "name": "workspace in use", "ts": 1e6 * start, "args": args}));
}

/// Slices of modules: each lasts while the operators that follow one another are in it.
fn modules(measured: &Measured, call: usize, begin: f64, events: &mut Vec<Value>) {
    // The open modules with their beginnings; ends come from the operator before.
    let mut open: Vec<(&str, f64)> = Vec::new();
    let mut end = begin;
    let mut close = |open: &mut Vec<(&str, f64)>, keep: usize, end: f64| {
        while open.len() > keep {
            let path = open.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(".");
            if let Some((name, start)) = open.pop() {
                events.push(slice(name, "module", (start, end - start), &json!({ "path": path })));
            }
        }
    };
    for node in &measured.nodes {
        let Some(&(start, seconds)) = node.times.get(call) else { continue };
        let path: Vec<&str> = node.module.split('.').filter(|name| !name.is_empty()).collect();
        let same = open.iter().zip(&path).take_while(|((known, _), name)| known == *name).count();
        close(&mut open, same, end);
        open.extend(path[same..].iter().map(|name| (*name, begin + start)));
        end = begin + start + seconds;
    }
    close(&mut open, 0, end);
}
