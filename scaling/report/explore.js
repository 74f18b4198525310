"use strict";
// The page's own plot of runs: axes, groups, hidden runs, and one run's curve and config.
(() => {
  const source = document.getElementById("explore-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  if (data.runs.length < 2) return;
  const at = (id) => document.getElementById(`explore-${id}`);
  const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7"];
  const SHAPES = [
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", "M-4,-4h8v8h-8z", "M0,-5L5,4H-5z", "M0,-5.5L5,0L0,5.5L-5,0z",
    "M0,5L5,-4H-5z", "M-1.5,-5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
  ];
  const LEFT = 68, RIGHT = 14, TOP = 12, BOTTOM = 46;
  // Drawn as wide as the screen allows, so that text and marks keep their size on a phone.
  let W = 760, H = 430;
  const SIZE = matchMedia("(pointer: coarse)").matches ? 1.5 : 1;
  const hidden = new Set();  // names of runs
  const off = new Set();  // places of groups
  let chosen = null;  // index of the run that is open

  const svg = (tag, attributes, ...children) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
  const html = (tag, properties, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };
  const human = (v) => {
    const size = Math.abs(v);
    if (size && (size >= 1e15 || size < 1e-3)) return v.toExponential(2);
    for (const [power, letter] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e4, "k"]])
      if (size >= power) return `${+(v / (letter === "k" ? 1e3 : power)).toPrecision(3)}${letter}`;
    return `${+v.toPrecision(4)}`;
  };

  // Where values lie, and round ticks between them.
  const scale = (values, log, from, to) => {
    let [low, high] = [Math.min(...values), Math.max(...values)];
    const way = log && low > 0 ? Math.log : (v) => v;
    const back = log && low > 0 ? Math.exp : (v) => v;
    let [a, b] = [way(low), way(high)];
    const room = (b - a || Math.abs(a) || 1) * 0.05;
    [a, b] = [a - room, b + room];
    const place = (v) => from + ((way(v) - a) / (b - a)) * (to - from);
    return { place, ticks: ticks(back(a), back(b), way !== back && log && low > 0) };
  };
  const ticks = (low, high, log) => {
    const most = W < 480 ? 4 : 8;
    if (log && high / low > 4) {
      const found = [];
      for (const parts of [[1], [1, 3], [1, 2, 5]]) {
        found.length = 0;
        for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
          for (const part of parts) found.push(part * 10 ** e);
        const inside = found.filter((t) => t >= low && t <= high);
        if (inside.length >= 3)
          return inside.filter((_, i) => i % Math.ceil(inside.length / most) === 0);
      }
    }
    const step = 10 ** Math.floor(Math.log10((high - low) / 4));
    const even = step * [1, 2, 5, 10, 20, 50].find((k) => (high - low) / (k * step) <= most);
    const out = [];
    for (let k = Math.ceil(low / even); k * even <= high; k++) out.push(+(k * even).toPrecision(12));
    return out;
  };

  const frame = (root, x, y, xName, yName, width, height) => {
    const line = { stroke: "var(--grid)" }, text = { fill: "var(--ink)", "font-size": 12 };
    for (const t of x.ticks) {
      root.append(svg("line", { x1: x.place(t), x2: x.place(t), y1: TOP, y2: height - BOTTOM, ...line }));
      root.append(svg("text", { x: x.place(t), y: height - BOTTOM + 16, "text-anchor": "middle", ...text }, human(t)));
    }
    for (const t of y.ticks) {
      root.append(svg("line", { x1: LEFT, x2: width - RIGHT, y1: y.place(t), y2: y.place(t), ...line }));
      root.append(svg("text", { x: LEFT - 6, y: y.place(t) + 4, "text-anchor": "end", ...text }, human(t)));
    }
    const middle = (TOP + height - BOTTOM) / 2;
    root.append(svg("text", { x: (LEFT + width - RIGHT) / 2, y: height - 6, "text-anchor": "middle", ...text }, xName));
    root.append(svg("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(13,${middle}) rotate(-90)`, ...text }, yName));
  };

  const group = () => data.groups[at("group").value] || null;
  const axis = (id) => data.axes[at(id).value];
  const value = (run, id) => run.values[at(id).value];
  const shown = () => data.runs.map((run, index) => ({ run, index, place: group() ? group().of[index] : 0 }))
    .filter(({ run, place }) => !hidden.has(run.name) && !off.has(place)
      && value(run, "x") !== null && value(run, "y") !== null);

  const describe = ({ run, place }) => {
    const of = group() ? `, ${group().label} ${group().names[place]}` : "";
    return `${axis("x").label} ${human(value(run, "x"))}, ${axis("y").label} ${human(value(run, "y"))}${of}: ${run.name}`;
  };

  const draw = () => {
    const runs = shown(), plot = at("plot");
    W = Math.max(300, plot.clientWidth || W);
    H = Math.round(Math.min(430, 0.8 * W));
    const had = document.activeElement && document.activeElement.dataset.index;
    plot.replaceChildren();
    legend();
    at("all").hidden = hidden.size === 0;
    at("all").textContent = `show ${hidden.size} hidden run${hidden.size === 1 ? "" : "s"}`;
    if (!runs.length) return plot.append(html("p", { className: "soft", textContent: "No run has both." }));
    const xs = runs.map(({ run }) => value(run, "x")), ys = runs.map(({ run }) => value(run, "y"));
    const x = scale(xs, at("logx").checked, LEFT, W - RIGHT);
    const y = scale(ys, at("logy").checked, H - BOTTOM, TOP);
    const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": `${axis("y").label} against ${axis("x").label}` });
    frame(root, x, y, axis("x").label, axis("y").label, W, H);
    for (const place of new Set(runs.map((one) => one.place))) {
      const sums = new Map();  // of the runs at one place of the axis
      for (const one of runs.filter((r) => r.place === place)) {
        const key = value(one.run, "x");
        sums.set(key, [...(sums.get(key) || []), value(one.run, "y")]);
      }
      const means = [...sums].sort((a, b) => a[0] - b[0])
        .map(([k, v]) => `${x.place(k)},${y.place(v.reduce((a, b) => a + b) / v.length)}`);
      if (group()) root.append(svg("polyline", { points: means.join(" "), fill: "none", stroke: COLOURS[place % 6], "stroke-opacity": 0.6, "stroke-width": 1.5 }));
    }
    const tip = html("div", { className: "explore-tip", hidden: true });
    runs.sort((a, b) => value(a.run, "x") - value(b.run, "x") || a.place - b.place);
    const nodes = runs.map((one, order) => {
      const node = svg("path", {
        d: SHAPES[one.place % 6], fill: COLOURS[one.place % 6], stroke: "var(--paper)", role: "button",
        transform: `translate(${x.place(value(one.run, "x"))},${y.place(value(one.run, "y"))}) scale(${SIZE})`,
        tabindex: order ? -1 : 0, "data-index": one.index, "aria-label": describe(one),
        class: one.index === chosen ? "chosen" : "",
      });
      const show = () => {
        tip.textContent = describe(one);
        tip.hidden = false;
        const [box, point] = [plot.getBoundingClientRect(), node.getBoundingClientRect()];
        tip.style.left = `${Math.min(point.left - box.left + 12, Math.max(0, box.width - tip.offsetWidth))}px`;
        tip.style.top = `${point.top - box.top + 16}px`;
      };
      node.addEventListener("pointerenter", show);
      node.addEventListener("focus", show);
      for (const gone of ["pointerleave", "blur"]) node.addEventListener(gone, () => { tip.hidden = true; });
      node.addEventListener("click", () => open(one.index));
      node.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
        if (step) nodes[(order + step + nodes.length) % nodes.length].focus();
        else if (event.key === "Enter" || event.key === " ") open(one.index);
        else return;
        event.preventDefault();
      });
      return node;
    });
    root.append(...nodes);
    plot.append(root, tip);
    const again = nodes.find((node) => node.dataset.index === had);
    if (again) again.focus();
  };

  const legend = () => {
    at("legend").replaceChildren(...(group() ? group().names : []).map((name, place) => {
      const mark = svg("svg", { viewBox: "-7 -7 14 14", width: 14, height: 14, "aria-hidden": "true" },
        svg("path", { d: SHAPES[place % 6], fill: COLOURS[place % 6] }));
      const button = html("button", { type: "button" }, mark, ` ${name}`);
      button.setAttribute("aria-pressed", String(!off.has(place)));
      button.addEventListener("click", () => {
        if (!off.delete(place)) off.add(place);
        draw();
        at("legend").children[place].focus();
      });
      return button;
    }));
  };

  const open = (index) => {
    if (index < 0) return;
    chosen = index;
    const run = data.runs[index];
    const hide = html("button", { type: "button", textContent: "hide this run" });
    hide.addEventListener("click", () => {
      hidden.add(run.name);
      chosen = null;
      at("run").replaceChildren();
      draw();
      at("all").focus();
    });
    const rows = [...data.axes.map(({ label }, i) => [label, run.values[i] === null ? "-" : `${+run.values[i].toPrecision(6)}`]),
      ...data.groups.map((one) => [one.name, one.names[one.of[index]]]), ...Object.entries(run.fields)];
    const body = html("tbody", {}, ...[...new Map(rows)].map(([name, text]) =>
      html("tr", {}, html("th", { scope: "row", textContent: name }), html("td", { textContent: text }))));
    at("run").replaceChildren(html("h3", { textContent: run.name }), curve(run), html("p", {}, hide),
      html("div", { className: "scroll text" }, html("table", {}, body)));
    draw();
  };

  const curve = (run) => {
    const [train, val] = [run.curve.train || [[], []], run.curve.val || [[], []]];
    const [xs, ys] = [[...train[0], ...val[0]], [...train[1], ...val[1]]];
    if (!xs.length) return html("p", { className: "soft", textContent: "It has no curve." });
    const height = 280, x = scale(xs, true, LEFT, W - RIGHT), y = scale(ys, true, height - BOTTOM, TOP);
    const root = svg("svg", { viewBox: `0 0 ${W} ${height}`, role: "img", "aria-label": `Curve of ${run.name}` });
    frame(root, x, y, `${data.amount} seen`, data.loss, W, height);
    root.append(svg("polyline", { points: train[0].map((v, i) => `${x.place(v)},${y.place(train[1][i])}`).join(" "), fill: "none", stroke: "var(--blue)", "stroke-width": 1.5 }));
    val[0].forEach((v, i) => root.append(svg("circle", { cx: x.place(v), cy: y.place(val[1][i]), r: 4, fill: "#d55e00", stroke: "var(--paper)" })));
    return html("div", {}, root, html("p", { className: "soft small", textContent: "Training (line) and validation (points)." }));
  };

  const options = (id, entries, selected) => at(id).append(...entries.map(([value, label]) =>
    html("option", { value, textContent: label, selected: value === selected })));
  const place = (name) => data.axes.findIndex((one) => one.name === name);
  const axes = data.axes.map(({ label }, i) => [i, label]);
  options("x", axes, place(data.x));
  options("y", axes, place(data.y));
  options("group", [["", "nothing"], ...data.groups.map(({ label }, i) => [i, label])], data.group);
  for (const [box, of] of [["logx", "x"], ["logy", "y"]]) {
    const positive = () => { at(box).checked = data.runs.every((run) => !(value(run, of) <= 0) || value(run, of) === null); };
    positive();
    at(of).addEventListener("change", () => { positive(); draw(); });
    at(box).addEventListener("change", draw);
  }
  at("group").addEventListener("change", () => { off.clear(); draw(); });
  at("all").addEventListener("click", () => { hidden.clear(); draw(); at("x").focus(); });
  for (const link of document.querySelectorAll("a[data-run]")) {
    link.addEventListener("click", () => open(data.runs.findIndex((run) => run.name === link.dataset.run)));
  }
  document.getElementById("explore").hidden = false;
  addEventListener("resize", () => (chosen === null ? draw() : open(chosen)));
  draw();
})();
