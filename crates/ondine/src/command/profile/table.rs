//! The tables that people read on a terminal.

use super::measure::{Measured, Module, Sum};

/// All tables, of at most `rows` rows each.
pub(super) fn lines(measured: &Measured, rows: usize) -> Vec<String> {
    let total = measured.total();
    let mut lines: Vec<String> = measured.machine().to_string().lines().map(str::to_owned).collect();
    let (seconds, peak) = (measured.seconds(), measured.limits().0);
    lines.push(format!(
        "{} in {}: {} a call (median of {}), {:.2} GFLOP at {:.0} GFLOP/s, {:.1} % of the peak; {} outside operators",
        measured.function,
        measured.model,
        time(seconds),
        measured.calls.len(),
        total.flops / 1e9,
        total.flops / 1e9 / seconds,
        100.0 * total.flops / seconds / peak,
        time((seconds - total.seconds).max(0.0)),
    ));
    let by_op = measured.by(|node| node.op.clone()).into_iter().map(|(op, sum)| (op.to_string(), sum));
    table(measured, "operator", by_op.collect(), rows, &mut lines);
    let mut modules = Vec::new();
    flatten(&measured.modules(), 0, &mut modules);
    table(measured, "module (with all below)", modules, rows.saturating_mul(2), &mut lines);
    let by_line = measured.by(|node| node.line.clone()).into_iter();
    let by_line = by_line.map(|(line, sum)| match line {
        Some(line) => (format!("{}  {}", line.place, line.text), sum),
        None => ("(no line)".to_owned(), sum),
    });
    table(measured, "Python line", by_line.collect(), rows, &mut lines);
    let mut nodes: Vec<(String, Sum)> = measured
        .nodes
        .iter()
        .map(|node| (format!("{} ({}) {:?}  {}", node.name, node.op, node.shape, node.module), node.sum))
        .collect();
    nodes.sort_by(|(_, a), (_, b)| b.seconds.total_cmp(&a.seconds));
    table(measured, "node", nodes, rows, &mut lines);
    lines
}

fn flatten(module: &Module, depth: usize, rows: &mut Vec<(String, Sum)>) {
    rows.push((format!("{}{}", "  ".repeat(depth), module.name), module.all));
    module.children.iter().for_each(|child| flatten(child, depth + 1, rows));
}

fn table(measured: &Measured, title: &str, rows: Vec<(String, Sum)>, most: usize, lines: &mut Vec<String>) {
    let ((peak, bandwidth), total) = (measured.limits(), measured.total());
    lines.push(String::new());
    lines.push(format!("   share       time  calls  GFLOP/s  of peak    GB/s  of read  {title}"));
    let left = rows.len().saturating_sub(most);
    for (name, sum) in rows.into_iter().take(most) {
        let speed = |amount: f64, limit: f64, width: usize| match amount > 0.0 && sum.seconds > 0.0 {
            true => {
                let speed = amount / sum.seconds;
                format!("{:width$.1} {:6.1} %", speed / 1e9, 100.0 * speed / limit)
            }
            false => " ".repeat(width + 9),
        };
        let (flops, bytes) = (speed(sum.flops, peak, 8), speed(sum.bytes, bandwidth, 7));
        let share = 100.0 * sum.seconds / total.seconds.max(f64::MIN_POSITIVE);
        lines.push(format!("{share:6.1} % {:>10} {:6} {flops} {bytes}  {name}", time(sum.seconds), sum.count));
    }
    if left > 0 {
        lines.push(format!("  and {left} more; --rows 0 shows all"));
    }
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", 1e3 * s),
        s => format!("{:.1} us", 1e6 * s),
    }
}
