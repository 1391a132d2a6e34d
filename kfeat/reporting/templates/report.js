"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const by = (id) => document.getElementById(id);
  const map = by("map"), card = by("card"), dark = matchMedia("(prefers-color-scheme: dark)");
  const count = data.views[0].x.length;
  let chosen = -1;

  const view = () => data.views[+by("model").value];
  const name = (label) => (data.classes ? data.classes[label] : String(label));
  const caption = (n) => (data.labels ? name(data.labels[n]) : data.ids[n]);

  function groups() {
    const v = view();
    if (by("colour").value === "class") {
      const labels = [...new Set(data.labels)].sort((a, b) => a - b);
      const place = new Map(labels.map((label, n) => [label, n]));
      return { of: data.labels.map((l) => place.get(l)), names: labels.map(name) };
    }
    if (by("colour").value === "error")
      return { of: v.predicted.map((p, n) => (p === data.labels[n] ? 0 : 3)),
               names: ["right", null, null, "wrong"] };
    const clusters = Math.max(...v.cluster) + 1;
    return { of: v.cluster, names: Array.from({ length: clusters }, (_, n) => `cluster ${n + 1}`) };
  }

  const colour = (group) => data.palette[group % data.palette.length];
  const shape = (group) => Math.floor(group / data.palette.length) % data.symbols.length;

  function webgl() {
    const context = document.createElement("canvas").getContext("webgl");
    return Boolean(context);
  }

  const kind = webgl() ? "scattergl" : "scatter";

  // A ring around the chosen point: a shape moves without the points being drawn again.
  function mark() {
    const v = view(), style = getComputedStyle(document.documentElement);
    return { type: "circle", xsizemode: "pixel", ysizemode: "pixel",
      xanchor: v.x[chosen], yanchor: v.y[chosen], x0: -8, x1: 8, y0: -8, y1: 8,
      line: { width: 3, color: style.getPropertyValue("--ink").trim() } };
  }

  // Plotly keeps zoom and place while this stays the same.
  let revision = 0;

  function draw(keep) {
    const v = view(), g = groups();
    const points = { type: kind, mode: "markers", x: v.x, y: v.y, hoverinfo: "none",
      marker: { size: count > 3000 ? 5 : 8, opacity: 0.85, color: g.of.map(colour),
                symbol: g.of.map((n) => data.symbols[shape(n)]) } };
    const axis = { visible: false, showgrid: false, zeroline: false };
    const layout = { margin: { l: 8, r: 8, t: 8, b: 8 }, showlegend: false, hovermode: "closest",
      dragmode: "pan", uirevision: keep ? revision : ++revision, hoverdistance: 12,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      xaxis: { ...axis }, yaxis: { ...axis }, shapes: chosen < 0 ? [] : [mark()] };
    const legend = by("legend");
    legend.replaceChildren();
    g.names.forEach((text, n) => {
      if (text === null) return;
      const item = document.createElement("li"), sign = document.createElement("span");
      sign.style.color = colour(n);
      sign.textContent = data.signs[shape(n)];
      sign.setAttribute("aria-hidden", "true");
      item.append(sign, ` ${text}`);
      legend.append(item);
    });
    return Plotly.react(map, [points], layout,
      { displayModeBar: false, scrollZoom: true, responsive: true });
  }

  function thumb(n, size) {
    const span = document.createElement("span"), place = n % (data.sheet * data.sheet);
    span.className = `t s${Math.floor(n / data.sheet ** 2)}`;
    span.setAttribute("role", "img");
    span.setAttribute("aria-label", caption(n));
    span.title = caption(n);
    span.style.setProperty("--x", place % data.sheet);
    span.style.setProperty("--y", Math.floor(place / data.sheet));
    span.style.setProperty("--s", `${size}px`);
    return span;
  }

  function text(tag, words) {
    const element = document.createElement(tag);
    element.textContent = words;
    return element;
  }

  function show(n) {
    chosen = n;
    const v = view(), row = document.createElement("div");
    const facts = [`cluster ${v.cluster[n] + 1}`];
    if (v.predicted)
      facts.push(v.predicted[n] === data.labels[n] ? "KNN is right"
                                                   : `KNN says ${name(v.predicted[n])}`);
    row.className = "row";
    row.append(...v.neighbours[n].map((other) => thumb(other, 40)));
    card.replaceChildren(thumb(n, 128), text("h3", caption(n)), text("p", facts.join(" · ")),
      text("p", "Nearest of the images shown"), row);
    Plotly.relayout(map, { shapes: [mark()] });
  }

  function zoom(factor) {
    const ranges = {};
    for (const axis of ["xaxis", "yaxis"]) {
      const [low, high] = map._fullLayout[axis].range;
      const middle = (low + high) / 2, half = factor * (high - low) / 2;
      ranges[`${axis}.range`] = [middle - half, middle + half];
    }
    Plotly.relayout(map, ranges);
  }

  const step = (by) => show((chosen + by + count) % count);
  draw(false).then(() => {
    for (const event of ["plotly_hover", "plotly_click"])
      map.on(event, (found) => {
        const point = found.points[0];
        if (point && point.pointNumber !== chosen) show(point.pointNumber);
      });
    map.dataset.ready = "yes";
  });
  by("model").addEventListener("change", () => draw(false).then(() => chosen < 0 || show(chosen)));
  by("colour").addEventListener("change", () => draw(true));
  by("reset").addEventListener("click", () =>
    Plotly.relayout(map, { "xaxis.autorange": true, "yaxis.autorange": true }));
  by("closer").addEventListener("click", () => zoom(1 / 1.5));
  by("farther").addEventListener("click", () => zoom(1.5));
  by("next").addEventListener("click", () => step(1));
  by("previous").addEventListener("click", () => step(chosen < 0 ? 0 : -1));
  dark.addEventListener("change", () => draw(true));
})();
