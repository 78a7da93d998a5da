// The page around the viewer: chooses data set, encoder and layout, and keeps what is selected when they change.
import viewer from "/viewer.js";

const TABLE = "dataset";
const KEPT = "selected before";
const element = (id) => document.getElementById(id);
const choices = { dataSet: element("data-set"), encoder: element("encoder"), setting: element("setting"), beside: element("beside") };

let catalogue;
let dataSet; // columns, probes, views and counts of the one that is open
let widget = null; // the viewer, with its state and predicate
let kept = null; // the predicate of what was selected before the maps changed

async function call(name, body, as = "json") {
  const answer = await fetch(`/api/${name}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error((await answer.json()).error);
  return as == "json" ? answer.json() : answer.arrayBuffer();
}

function say(text, bad = false) {
  element("message").textContent = text;
  element("message").classList.toggle("bad", bad);
}

function offer(select, values, chosen, label = (value) => value) {
  select.replaceChildren(...values.map((value) => new Option(label(value), value, false, value == chosen)));
}

// The viewer is a notebook widget (anywidget): it reads its props, writes its state and predicate, and sends queries.
class Widget {
  constructor(name, props, state) {
    this.name = name;
    this.values = { _props: props, _state: JSON.stringify(state), _predicate: kept };
    this.settling = kept != null; // until the viewer has found out for itself that something is selected
    this.listeners = {};
    this.element = document.createElement("div");
    this.element.style.height = "100%";
    element("viewer").replaceChildren(this.element);
    this.destroy = viewer.render({ model: this, el: this.element });
  }
  get(key) {
    return this.values[key];
  }
  set(key, value) {
    if (key == "_predicate") {
      if (value == null && this.settling) return;
      this.settling = false;
    }
    this.values[key] = value;
    if (key == "_predicate" && widget == this) tell(showSelected)();
  }
  save_changes() {}
  on(event, listener) {
    this.listeners[event] = listener;
  }
  async send({ uuid, type, sql }) {
    const reply = this.listeners["msg:custom"];
    try {
      const arrow = await call("query", { dataset: this.name, sql }, "arrow");
      reply({ uuid, type }, type == "arrow" ? [new Uint8Array(arrow)] : []);
    } catch (error) {
      reply({ uuid, error: error.message }, []);
    }
  }
}

function mapChart(title, columns, category) {
  return {
    type: "embedding",
    title,
    data: { x: columns.x, y: columns.y, neighbors: columns.neighbors, image: "thumbnail", category },
  };
}

function columnChart({ name, chart }) {
  if (chart == "categories") return { type: "count-plot", title: name, data: { field: name } };
  const bars = { mark: "bar", encoding: { x: { field: name }, y: { aggregate: "count" } } };
  return {
    title: name,
    layers: [
      { ...bars, style: { fillColor: "$markColorFade" } },
      { ...bars, filter: "$filter" },
    ],
    selection: { brush: { encoding: "x" } },
    widgets: [{ type: "scale.type", channel: "x" }],
  };
}

function columnStyles(encoders) {
  const styles = { thumbnail: { renderer: "image", display: "full", options: { size: 128 } } };
  for (const { name } of dataSet.columns) styles[name] = { display: name == "image_id" ? "hidden" : "badge" };
  for (const [encoder, name] of Object.entries(dataSet.probes)) if (!encoders.includes(encoder)) styles[name] = { display: "hidden" };
  for (const name of Object.keys(dataSet.views)) styles[`view ${name}`] = { display: "hidden" };
  return styles;
}

// Where a map is looked at from: all of it, clear of what lies over its edges. The viewer shows 2 / scale along the longer
// side; the map's own size is not known before it is drawn.
function viewport([left, bottom, right, top], beside) {
  const { clientWidth, clientHeight } = element("viewer");
  const width = (clientWidth - 460) / (beside ? 2 : 1);
  const height = clientHeight - 60;
  const pixels = 0.8 * Math.min(width / Math.max(right - left, 1e-6), height / Math.max(top - bottom, 1e-6));
  return { x: (left + right) / 2, y: (bottom + top) / 2, scale: (2 * pixels) / Math.max(width, height) };
}

// The viewer's state: maps on the left, predicates and a chart of every column on the right.
function makeState(maps, viewports, before) {
  const charts = {};
  const chartStates = kept ? { predicates: { selection: [kept] } } : {};
  const moved = maps.some((map, index) => before?.charts[`map${index}`]?.title != map.title) || `map${maps.length}` in before.charts;
  maps.forEach((map, index) => {
    charts[`map${index}`] = map;
    const seen = moved ? viewports[index] : before.chartStates[`map${index}`]?.viewport;
    chartStates[`map${index}`] = { viewport: seen ?? viewports[index] };
  });
  const views = Object.entries(dataSet.views).map(([name, predicate]) => ({ name: `view ${name}`, predicate }));
  const own = (before?.charts.predicates?.items ?? []).filter(({ name }) => name != KEPT && !name.startsWith("view "));
  const items = [...views, ...(kept ? [{ name: KEPT, predicate: kept }] : []), ...own];
  const unique = items.filter((item, index) => items.findIndex((other) => other.predicate == item.predicate) == index);
  charts.predicates = { type: "predicates", title: "SQL predicates", items: unique };
  dataSet.columns.filter(({ chart }) => chart).forEach((column, index) => (charts[`column${index}`] = columnChart(column)));
  charts.table = { type: "instances", title: "Images", columns: ["thumbnail", ...dataSet.columns.map(({ name }) => name)] };
  const ids = Object.keys(charts);
  return {
    charts,
    chartStates,
    layouts: { main: { type: "list", name: "Maps", showTable: false, ...before?.layouts.main, chartIds: ids } },
    layoutOrder: ["main"],
    currentLayout: "main",
    columnStyles: columnStyles([choices.encoder.value, choices.beside.value]),
  };
}

async function showMaps() {
  const dataset = choices.dataSet.value;
  const encoders = [choices.encoder.value, choices.beside.value].filter((name) => name);
  const before = widget && widget.name == dataset ? JSON.parse(widget.get("_state")) : null;
  const category = before?.charts.map0?.data.category ?? (before ? undefined : dataSet.columns.find(({ chart }) => chart)?.name);
  const maps = [];
  const viewports = [];
  for (const encoder of encoders) {
    const settings = catalogue.data_sets[dataset][encoder];
    const setting = settings.includes(choices.setting.value) ? choices.setting.value : settings[0];
    const columns = await call("map", { dataset, encoder, setting });
    maps.push(mapChart(`${encoder}, ${setting}`, columns, category));
    viewports.push(viewport(columns.extent, encoders.length > 1));
  }
  const state = makeState(maps, viewports, before);
  widget?.destroy();
  const props = {
    data: { table: TABLE, id: "__row_index__", neighbors: maps[0].data.neighbors, image: "thumbnail", text: searched() },
    embeddingViewConfig: { autoLabelEnabled: false },
  };
  widget = new Widget(dataset, props, state);
  showSelected();
}

// The column that the search panel looks through first.
function searched() {
  const names = dataSet.columns.map(({ name }) => name);
  return ["overlay_text", "caption", "label", "uri"].find((name) => names.includes(name));
}

async function showSelected() {
  const predicate = widget.get("_predicate");
  for (const field of element("view").elements) field.disabled = predicate == null;
  if (predicate == null) {
    element("selected").textContent = "nothing selected";
    return;
  }
  const { images } = await call("count", { dataset: widget.name, predicate });
  if (widget.get("_predicate") == predicate) element("selected").textContent = `${images} of ${dataSet.images} selected`;
}

async function openDataSet() {
  const dataset = choices.dataSet.value;
  dataSet = await call("data-set", { dataset });
  kept = null;
  const shown = dataset == catalogue.start.dataset ? catalogue.start : {};
  const encoders = Object.keys(catalogue.data_sets[dataset]);
  offer(choices.encoder, encoders, shown.encoder);
  offer(choices.beside, ["", ...encoders], "", (name) => name || "none");
  offerSettings(shown.setting);
  await showMaps();
  say(dataSet.left_out ? `${dataSet.left_out} images have no place in the layouts of all encoders, and are left out` : "");
}

function offerSettings(chosen) {
  const settings = catalogue.data_sets[choices.dataSet.value][choices.encoder.value];
  offer(choices.setting, settings, settings.includes(chosen) ? chosen : settings[0]);
}

// The viewer tells its state and predicate a fifth of a second late.
const settled = () => new Promise((done) => setTimeout(done, 300));

// Other maps of the same images: what is selected stays, as a predicate, since a lasso means nothing on another map.
async function changeMaps() {
  await settled();
  kept = widget.get("_predicate");
  offerSettings(choices.setting.value);
  await showMaps();
}

async function saveView() {
  await settled();
  const dataset = widget.name;
  const name = element("view-name").value;
  const { images, predicate } = await call("view", { dataset, name, predicate: widget.get("_predicate") });
  dataSet.views[name] = predicate;
  kept = predicate;
  await showMaps();
  element("view-name").value = "";
  say(`view ${name}: ${images} images, to colour by, for SQL (SELECT * FROM ${name}) and for searches (--view ${name})`);
}

// Without WebGPU the viewer draws by WebGL, says so below the map, and calls that an error.
const report = console.error;
console.error = (...words) => (/WebGPU (adapter|device)$/.test(words[0]) ? console.info(...words) : report(...words));

// A viewer that is replaced while it waits for answers gives them up, and tells nobody but the console.
addEventListener("unhandledrejection", (event) => event.reason == "Cleared" && event.preventDefault());

const tell = (action) => () => action().catch((error) => say(error.message, true));
// What a person asks for is done in turn: the maps are made anew, and what is selected is read off the last ones.
let turn = Promise.resolve();
const inTurn = (action) => () => (turn = turn.then(tell(action)));

document.body.className = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
choices.dataSet.addEventListener("change", inTurn(openDataSet));
for (const select of [choices.encoder, choices.setting, choices.beside]) select.addEventListener("change", inTurn(changeMaps));
element("view").addEventListener("submit", (event) => {
  event.preventDefault();
  inTurn(saveView)();
});

inTurn(async () => {
  catalogue = await call("catalogue", {});
  offer(choices.dataSet, Object.keys(catalogue.data_sets), catalogue.start.dataset);
  await openDataSet();
})();
