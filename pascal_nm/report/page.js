"use strict";
const byId = (id) => document.getElementById(id);
const read = (id) => JSON.parse(byId(id).textContent);
const report = read("report"), figures = read("figures");
const classes = report.data.classes;
const named = (label) => classes[label] ?? String(label);
const picked = { image: 0, layer: 0, neuron: 0, chip: 0, quantity: 0 };

// Paper and text follow the page, light or dark.
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
function template() {
  const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), linecolor: colour("--line") };
  const label = { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink") } };
  const font = { color: colour("--ink"), size: 12, family: getComputedStyle(document.body).fontFamily };
  const paper = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" };
  return { layout: { ...paper, font, xaxis: axis, yaxis: axis, hoverlabel: label, colorway: [colour("--ink")] } };
}
function draw(place, figure) {
  const image = { format: "svg", filename: `${report.network.name}-${place}` };
  const config = { responsive: true, displaylogo: false, modeBarButtons: [["toImage"]], toImageButtonOptions: image };
  return Plotly.react(byId(place), figure.data, { ...figure.layout, template: template() }, config);
}

function thumbnail(image) {
  const canvas = document.createElement("canvas"), planes = image.pixels;
  [canvas.width, canvas.height] = [planes[0][0].length, planes[0].length];
  const context = canvas.getContext("2d"), painted = context.createImageData(canvas.width, canvas.height);
  planes[0].flat().forEach((_, i) => {
    const at = [Math.floor(i / canvas.width), i % canvas.width];
    const value = (channel) => (255 * planes[planes.length === 3 ? channel : 0][at[0]][at[1]]) / image.scale;
    painted.data.set([value(0), value(1), value(2), 255], 4 * i);
  });
  context.putImageData(painted, 0, 0);
  return canvas;
}

function options(select, names) {
  select.replaceChildren(...names.map((name, i) => new Option(name, i)));
}

const layers = () => report.images[picked.image].layers;
const traced = () => layers().flatMap((layer, i) => (layer.neurons[0].potential ? [i] : []));

function drawNeuron() {
  const layer = layers()[picked.layer], one = layer.neurons[picked.neuron];
  const figure = structuredClone(figures.potential[0]);
  const [line, up, down, counter] = figure.data;
  const sent = (key, inside) => [...new Set([...(one[key] ?? []), ...one[inside]])].sort((a, b) => a - b);
  const steps = one.potential.map((_, t) => t);
  Object.assign(line, { x: steps, y: one.potential });
  for (const [marks, key, inside] of [[up, "spikes", "up"], [down, "taken_back", "down"]]) {
    const when = sent(key, inside);
    Object.assign(marks, { x: when, y: when.map((t) => one.potential[t]) });
  }
  if (one.numbers) {  // a spike says how much the level has changed
    const when = sent("spikes", "up").concat(sent("taken_back", "down")).sort((a, b) => a - b);
    const number = (t) => one.numbers[when.indexOf(t)].toString().replace(/^(?=\d)/, "+");
    for (const marks of [up, down]) Object.assign(marks, { mode: "markers+text", text: marks.x.map(number), textposition: "top center" });
    [up.name, down.name, counter.name] = ["sends a rise", "sends a fall", "level"];
  }
  Object.assign(counter, { x: steps, y: one.counter });
  figure.layout.yaxis2.dtick = Math.ceil((Math.max(...one.counter) - Math.min(...one.counter, 0) + 1) / 6);
  const stages = report.network.populations.find((p) => p.name === layer.name).stages;
  const shapes = figures.stages.flatMap((style) =>
    stages
      .filter((span) => span.stage === style.stage && span.start < steps.length)
      .map((span) => ({ ...style.ground, x0: span.start - 0.5, x1: Math.min(span.stop, steps.length) - 0.5 })),
  );
  const present = stages.filter((span) => span.start < steps.length).map((span) => span.stage);
  figure.data.push(...figures.stages.filter((style) => present.includes(style.stage)).map((style) => style.legend));
  figure.layout.shapes = [...(!layer.sends ? [] : figure.layout.shapes), ...shapes];
  if (!layer.sends) figure.layout.yaxis.title.text = "logit";
  figure.layout.xaxis.range = figure.layout.xaxis2.range = [Math.max(-0.6, stages[0].start - 2.5), Math.min(steps.length - 0.4, stages.at(-1).stop + 1.5)];
  return draw("potential", figure);
}

function pickNeuron(layer, neuron) {
  const shown = layers()[layer];
  Object.assign(picked, { layer, neuron });
  options(byId("layer"), traced().map((i) => layers()[i].name));
  byId("layer").value = traced().indexOf(layer);
  const name = (one) => (shown.answers ? named(one.neuron[0]) : one.neuron.join(", "));
  const sum = (one) => (one.numbers ? one.numbers.reduce((a, b) => a + b, 0) : one.spikes.length - one.taken_back.length);
  const spikes = (one) => (one.spikes ? ` (${sum(one)})` : "");
  options(byId("neuron"), shown.neurons.map((one) => name(one) + spikes(one)));
  byId("neuron").value = neuron;
  return drawNeuron();
}

// The neuron of a layer that has most to show: one that spikes, and of these the one that corrects most.
function liveliest(layer) {
  const busy = layers()[layer].neurons.map(({ spikes = [], up, down, taken_back = [] }) =>
    100 * Math.min(spikes.length, 1) + 10 * (down.length + taken_back.length) + up.length + spikes.length);
  return busy.indexOf(Math.max(...busy));
}

function pickImage(i) {
  picked.image = i;
  const image = report.images[i], answers = image.answer_after_each_timestep, last = answers.at(-1);
  [...byId("images").children].forEach((button, n) => button.setAttribute("aria-pressed", n === i));
  const since = answers.findLastIndex((answer) => answer !== last) + 2;
  const verdict = image.prediction === image.label ? " (right)" : image.label === null ? "" : ` (wrong, it is ${named(image.label)})`;
  byId("answer").textContent =
    `Answer ${named(image.prediction)}${verdict}, unchanged after ${since} of ${image.timesteps} timesteps; ` +
    `${image.spikes.toLocaleString("en")} spikes.`;
  draw("raster", figures.raster[i]);
  const plot = byId("raster");
  plot.removeAllListeners("plotly_click");
  plot.on("plotly_click", ({ points }) => {
    const [layer, neuron] = points[0].customdata ?? [];
    if (traced().includes(layer)) pickNeuron(layer, neuron);
  });
  return pickNeuron(picked.layer, liveliest(picked.layer));
}

function drawChip() {
  document.querySelectorAll(".of-chip").forEach((table, i) => (table.hidden = i !== picked.chip));
  draw("energy", figures.energy[picked.chip]);
  if (!figures.cores.length) return;
  const mapped = report.chips.flatMap((chip, i) => (chip.cores ? [i] : [])), at = mapped.indexOf(picked.chip);
  byId("core-map").hidden = at < 0;
  if (at >= 0) draw("cores", figures.cores[(at * figures.cores.length) / mapped.length + picked.quantity]);
}

report.images.forEach((image, i) => {
  const button = document.createElement("button"), text = document.createElement("span");
  text.textContent = report.frames ? `frame ${image.image}` : named(image.label);
  if (image.label !== null && image.prediction !== image.label) text.className = "wrong";
  button.append(thumbnail(image), text);
  button.onclick = () => pickImage(i);
  byId("images").append(button);
});
byId("layer").onchange = (event) => {
  const layer = traced()[event.target.value];
  pickNeuron(layer, liveliest(layer));
};
byId("neuron").onchange = (event) => pickNeuron(picked.layer, Number(event.target.value));
for (const name of ["chip", "quantity"]) {
  const select = byId(name);  // there is none where there is nothing to choose
  if (select) select.onchange = () => { picked[name] = Number(select.value); drawChip(); };
}

function drawAll() {
  for (const place of ["network", "counts", "rates", "metric", "chips", "timesteps", "frame-energy", "frame-operations", "frame-values", "frame-layers"]) {
    if (figures[place].length) draw(place, figures[place][0]);
  }
  drawChip();
  pickImage(picked.image);
}
picked.layer = traced()[Math.min(1, traced().length - 1)];
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
drawAll();
