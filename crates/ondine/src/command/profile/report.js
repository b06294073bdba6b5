"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const place = (id) => document.getElementById(id);

/** An element with attributes, text or children. */
function make(tag, attributes = {}, ...children) {
  const plain = ["svg", "g", "rect", "path", "line", "circle", "text"].includes(tag);
  const element = plain ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const digits = (x) => (x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toFixed(2));
const time = (s) => (s === 0 ? "0" : s >= 1 ? `${digits(s)} s` : s >= 1e-3 ? `${digits(s * 1e3)} ms` : `${digits(s * 1e6)} µs`);
const percent = (x) => (x === null ? "" : `${(100 * x).toFixed(1)} %`);
const bytes = (b) => (b >= 1e9 ? `${digits(b / 1e9)} GB` : b >= 1e6 ? `${digits(b / 1e6)} MB` : b >= 1e3 ? `${digits(b / 1e3)} kB` : `${b} B`);
const speed = (x) => (x.gflops !== null ? `${digits(x.gflops)} GFLOP/s` : x.gb_s !== null ? `${digits(x.gb_s)} GB/s` : "");
const where = (line) => line.place;

const kinds = new Map(data.operators.map((row, i) => [row.op, Math.min(i, 7)]));
const color = (op) => `var(--c${kinds.get(op) ?? 7})`;

function bar(share, fill) {
  const inner = make("i", { style: `width:${(100 * Math.min(1, share || 0)).toFixed(2)}%${fill ? `;background:${fill}` : ""}` });
  return make("div", { class: "bar" }, inner);
}

function tip(element, text) {
  const box = place("tip");
  element.addEventListener("pointermove", (event) => {
    box.textContent = text();
    box.hidden = false;
    const { width, height } = box.getBoundingClientRect();
    box.style.left = `${Math.min(event.clientX + 14, innerWidth - width - 8)}px`;
    box.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18}px`;
  });
  element.addEventListener("pointerleave", () => (box.hidden = true));
}

function describe(node) {
  const limits = [percent(node.fraction_of_peak) && `${percent(node.fraction_of_peak)} of the peak`, node.gb_s && `${digits(node.gb_s)} GB/s`];
  const line = node.line ? `\n${where(node.line)}  ${node.line.text}` : "";
  const facts = [time(node.seconds), percent(node.share), node.gflops && speed(node), ...limits].filter(Boolean).join(" · ");
  return `${node.name}\n${node.op} → ${node.dtype} [${node.shape.join(", ")}]${node.module ? `\n${node.module}` : ""}\n${facts}${line}`;
}

function cards() {
  place("title").textContent = `${data.function} · ${data.model.split(/[/\\]/).pop()}`;
  document.title = `${data.function} · Ondine profile`;
  const sizes = Object.entries(data.sizes).map(([name, size]) => `${name} = ${size}`);
  const inputs = (data.random_inputs ? "random inputs " : "") + data.inputs.join(", ");
  place("subtitle").textContent = [inputs, ...sizes, `${data.precision} on ${data.tier}, ${data.threads} threads`].join(" · ");
  const spread = `median of ${data.calls_s.length}, ${time(Math.min(...data.calls_s))} to ${time(Math.max(...data.calls_s))}`;
  const busy = data.memory.workspace_bytes + data.memory.weight_bytes;
  const rows = [
    ["a call", time(data.median_s), spread, null],
    ["arithmetic", `${digits(data.gflops)} GFLOP/s`, `${percent(data.fraction_of_peak)} of ${digits(data.peak_flops / 1e9)} · ${digits(data.gflop)} GFLOP`, data.fraction_of_peak],
    ["memory", bytes(busy), `${bytes(data.memory.weight_bytes)} weights, ${bytes(data.memory.workspace_bytes)} workspace`, null],
    ["operators", `${data.nodes.length}`, `${time(Math.max(0, data.outside_operators_s))} between them`, null],
  ];
  for (const [name, value, note, fraction] of rows) {
    const card = make("div", { class: "card" }, make("span", {}, name), make("b", {}, value), make("span", {}, note));
    if (fraction !== null) card.append(bar(fraction));
    place("cards").append(card);
  }
}

function timeline() {
  const [width, high, low, left] = [1200, 64, 90, 62];
  const total = data.nodes.reduce((sum, node) => sum + node.seconds, 0);
  const most = Math.max(1, ...data.nodes.map((node) => node.live_bytes));
  const svg = make("svg", { viewBox: `0 0 ${width} ${high + low + 46}`, role: "img" });
  const x = (s) => left + ((width - left) * s) / total;
  const base = high + low + 18;
  let at = 0;
  let area = `M${left},${base}`;
  for (const node of data.nodes) {
    const [from, to, top] = [x(at), x(at + node.seconds), base - (low * node.live_bytes) / most];
    area += `L${from.toFixed(2)},${top.toFixed(2)}L${to.toFixed(2)},${top.toFixed(2)}`;
    const gap = to - from > 3 ? 0.6 : 0;
    const slice = make("rect", { x: from, y: 0, width: Math.max(0.3, to - from - gap), height: high, rx: to - from > 6 ? 2 : 0, style: `fill:${color(node.op)}` });
    const zone = make("rect", { x: from, y: high, width: Math.max(0.3, to - from), height: low + 18, fill: "transparent" });
    tip(slice, () => describe(node));
    tip(zone, () => `${bytes(node.live_bytes)} of workspace in use\n${node.name}`);
    svg.append(slice, zone);
    at += node.seconds;
  }
  const shape = make("path", { d: `${area}L${x(total)},${base}Z`, style: "fill:var(--accent);opacity:0.22;stroke:var(--accent);pointer-events:none" });
  svg.append(shape, make("path", { d: `M${left},${base}H${width}`, class: "axis" }));
  svg.append(make("text", { x: 0, y: high / 2 + 4 }, "time"), make("text", { x: 0, y: base - low + 10 }, bytes(most)), make("text", { x: 0, y: base }, "0"));
  for (let i = 0; i <= 4; i++) {
    const anchor = ["start", "middle", "middle", "middle", "end"][i];
    svg.append(make("text", { x: x((total * i) / 4), y: base + 18, "text-anchor": anchor }, time((total * i) / 4)));
  }
  place("timeline").append(svg);
  for (const [op, i] of kinds) {
    if (i < 7) place("legend").append(make("span", {}, make("i", { style: `background:${color(op)}` }), op));
  }
  if (kinds.size > 7) place("legend").append(make("span", {}, make("i", { style: "background:var(--c7)" }), "others"));
}

function operators() {
  const rows = make("div", { class: "rows" });
  const most = data.operators[0]?.share || 1;
  for (const row of data.operators) {
    const name = make("span", {}, make("i", { class: "dot", style: `background:${color(row.op)}` }), `${row.op} `, make("span", { class: "share" }, `×${row.count}`));
    const line = make("div", { class: "row" }, name, bar(row.share / most, color(row.op)), make("em", {}, percent(row.share)), make("em", {}, speed(row)));
    tip(line, () => `${row.count} × ${row.op}: ${time(row.seconds)}\n${row.fraction_of_peak !== null ? `${percent(row.fraction_of_peak)} of the peak, ` : ""}${percent(row.fraction_of_bandwidth)} of reading from memory (more means caches)`);
    rows.append(line);
  }
  place("operators").append(rows);
}

function roofline() {
  const points = data.nodes.filter((node) => node.gflop > 0 && node.bytes > 0 && node.seconds > 0);
  if (!points.length) return void place("roofline").append("No operator has products.");
  const [width, height, left, bottom] = [560, 330, 52, 34];
  const xs = points.map((node) => (node.gflop * 1e9) / node.bytes);
  const knee = data.peak_flops / data.bandwidth;
  const [x0, x1] = [Math.floor(Math.log10(Math.min(...xs, knee))), Math.ceil(Math.log10(Math.max(...xs, knee * 2)))];
  const y1 = Math.log10(data.peak_flops / 1e9) + 0.2;
  const y0 = Math.min(Math.floor(Math.log10(Math.min(...points.map((node) => node.gflops)))), y1 - 2);
  const x = (v) => left + ((Math.log10(v) - x0) / (x1 - x0)) * (width - left - 8);
  const y = (v) => 8 + ((y1 - Math.log10(v)) / (y1 - y0)) * (height - bottom - 8);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  for (let e = x0; e <= x1; e++) {
    svg.append(make("path", { d: `M${x(10 ** e)},8V${height - bottom}`, class: "axis" }), make("text", { x: x(10 ** e), y: height - bottom + 16, "text-anchor": "middle" }, `${10 ** e}`));
  }
  for (let e = Math.ceil(y0); e <= y1; e++) {
    svg.append(make("path", { d: `M${left},${y(10 ** e)}H${width - 8}`, class: "axis" }), make("text", { x: left - 6, y: y(10 ** e) + 4, "text-anchor": "end" }, `${10 ** e}`));
  }
  const roof = (v) => Math.min(data.peak_flops, v * data.bandwidth) / 1e9;
  const start = Math.max(10 ** x0, (10 ** y0 * 1e9) / data.bandwidth);
  svg.append(make("path", { d: `M${x(start)},${y(roof(start))}L${x(knee)},${y(roof(knee))}H${width - 8}`, style: "fill:none;stroke:var(--soft);stroke-width:1.5;stroke-dasharray:5 4" }));
  const largest = Math.max(...points.map((node) => node.seconds));
  for (const node of [...points].sort((a, b) => b.seconds - a.seconds)) {
    const dot = make("circle", { cx: x((node.gflop * 1e9) / node.bytes), cy: y(node.gflops), r: 3 + 9 * Math.sqrt(node.seconds / largest), style: `fill:${color(node.op)};fill-opacity:0.62;stroke:var(--card)` });
    tip(dot, () => describe(node));
    svg.append(dot);
  }
  svg.append(make("text", { x: width - 8, y: height - 2, "text-anchor": "end" }, "FLOP per byte"), make("text", { x: 0, y: height - 2 }, "GFLOP/s"));
  place("roofline").append(svg);
}

function facts(row, share) {
  return [bar(row.share / share), make("span", { class: "time" }, time(row.seconds)), make("span", { class: "share" }, percent(row.share)), make("span", { class: "share" }, row.gflops !== null ? speed(row) : "")];
}

function modules(module, parent, depth) {
  const name = make("span", { title: module.path }, module.name);
  if (!module.children.length) return void parent.append(make("div", { class: "leaf" }, name, ...facts(module, 1)));
  const open = depth < 2 && module.share > 0.05;
  const part = make("details", open ? { open: "" } : {}, make("summary", {}, name, ...facts(module, 1)));
  module.children.forEach((child) => modules(child, part, depth + 1));
  parent.append(part);
}

function lines() {
  const most = data.lines[0]?.share || 1;
  if (!data.lines.length) place("lines").append("The graph was not imported from Python.");
  for (const line of data.lines) {
    const name = make("span", {}, make("span", { class: "where code" }, where(line)), make("code", { title: line.text }, line.text));
    const inner = make("div", { class: "inner" });
    const stack = data.nodes[line.nodes[0]].stack.map((frame) => `${frame.file}:${frame.line} in ${frame.function}`);
    inner.append(make("div", { class: "code" }, stack.join("  ›  ")));
    for (const i of line.nodes) {
      const node = data.nodes[i];
      const row = make("div", {}, make("i", { class: "dot", style: `background:${color(node.op)}` }), `${node.name} · ${node.op} [${node.shape.join(", ")}] · ${time(node.seconds)}`);
      tip(row, () => describe(node));
      inner.append(row);
    }
    place("lines").append(make("details", {}, make("summary", {}, name, ...facts(line, most)), inner));
  }
}

function nodes() {
  const columns = [
    ["#", (node) => data.nodes.indexOf(node), (node) => `${data.nodes.indexOf(node) + 1}`, true],
    ["node", (node) => node.name, (node) => node.name],
    ["operator", (node) => node.op, (node) => node.op],
    ["module", (node) => node.module, (node) => node.module],
    ["shape", (node) => node.shape.reduce((a, b) => a * b, 1), (node) => `${node.dtype} [${node.shape.join(", ")}]`],
    ["time", (node) => node.seconds, (node) => time(node.seconds), true],
    ["share", (node) => node.share, (node) => percent(node.share), true],
    ["GFLOP/s", (node) => node.gflops ?? -1, (node) => (node.gflops === null ? "" : digits(node.gflops)), true],
    ["of peak", (node) => node.fraction_of_peak ?? -1, (node) => percent(node.fraction_of_peak), true],
    ["GB/s", (node) => node.gb_s ?? -1, (node) => (node.gb_s === null ? "" : digits(node.gb_s)), true],
    ["Python", (node) => (node.line ? where(node.line) : ""), (node) => (node.line ? `${where(node.line)}  ${node.line.text}` : "")],
  ];
  let [sorted, down] = [5, true];
  const [head, body] = [make("tr"), make("tbody")];
  place("nodes").append(make("thead", {}, head), body);
  const show = () => {
    const wanted = place("filter").value.toLowerCase();
    const key = columns[sorted][1];
    const rows = data.nodes.filter((node) => columns.some(([, , text]) => text(node).toLowerCase().includes(wanted)));
    rows.sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) * (down ? -1 : 1));
    body.replaceChildren(...rows.map((node) => {
      const row = make("tr", {}, ...columns.map(([, , text, number]) => make("td", number ? { class: "n" } : { title: text(node) }, text(node))));
      row.children[2].prepend(make("i", { class: "dot", style: `background:${color(node.op)}` }));
      return row;
    }));
    [...head.children].forEach((cell, i) => (i === sorted ? cell.setAttribute("aria-sort", down ? "descending" : "ascending") : cell.removeAttribute("aria-sort")));
  };
  columns.forEach(([name, , , number], i) => {
    const cell = make("th", number ? { class: "n" } : {}, name);
    cell.addEventListener("click", () => {
      [sorted, down] = [i, i === sorted ? !down : Boolean(number) && i > 0];
      show();
    });
    head.append(cell);
  });
  place("filter").addEventListener("input", show);
  show();
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = (name) => document.documentElement.setAttribute("data-theme", name);
theme(dark.matches ? "dark" : "light");
place("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
for (const [id, open] of [["open", true], ["close", false]]) {
  place(id).addEventListener("click", () => document.querySelectorAll("#modules details").forEach((part) => (part.open = open)));
}
cards();
timeline();
operators();
roofline();
modules(data.modules, place("modules"), 0);
lines();
nodes();
