// Wires the parts: views, addresses, keys, and light or dark.
const { byId } = Dom;
const { body, documentElement: root } = document;
let current = null;

function showView(name) {
  for (const view of ["summary", "questions"]) {
    byId(`${view}-view`).hidden = view !== name;
    const tab = byId(`tab-${view}`);
    if (view === name) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  body.dataset.view = name;
  if (name === "questions") List.render();
}

const setAddress = (address) => history.replaceState(null, "", address);

function select(row, { opened = false, linked = true } = {}) {
  current = row;
  List.select(row);
  Detail.show(row, { go, back });
  if (!row) return;
  if (linked) setAddress(Report.addressOf(row));
  if (opened) body.classList.add("reading"); // on a narrow screen the question covers the list
}

function go(step) {
  const row = List.neighbor(step);
  if (row) select(row);
}

function back() {
  body.classList.remove("reading");
  byId("list").focus();
}

function filtered(state) {
  const started = performance.now();
  const rows = Filters.apply(state);
  List.show(rows);
  Saving.choose(rows);
  const all = Report.rows.length;
  byId("result-count").textContent = rows.length === all
    ? Format.plural(all, "question") : `${Format.count(rows.length)} of ${Format.plural(all, "question")}`;
  byId("filter-count").textContent = Filters.isActive(state) ? "· active" : "";
  if (!List.has(current)) select(List.first(), { linked: false });
  else Detail.show(current, { go, back });
  performance.measure("filter", { start: started });
}

function openQuestions(filter) {
  showView("questions");
  setAddress("#questions");
  FilterForm.set(filter);
}

// Follows the address; a question that the filters hide clears them.
function follow() {
  const row = Report.rowAt(location.hash);
  if (row) {
    showView("questions");
    if (!List.has(row)) FilterForm.set({});
    select(row, { opened: true });
    return;
  }
  body.classList.remove("reading");
  showView(location.hash === "#questions" ? "questions" : "summary");
}

const KEYS = {
  j: () => go(1),
  k: () => go(-1),
  ArrowDown: () => go(1),
  ArrowUp: () => go(-1),
  Home: () => select(List.first()),
  End: () => select(List.last()),
  Enter: () => {
    if (!current) return;
    body.classList.add("reading");
    byId("detail").focus();
  },
  z: () => document.querySelector("#detail .enlarge")?.click(),
  "/": () => {
    byId("filter-panel").open = true;
    byId("search").focus();
    byId("search").select();
  },
  Escape: back,
};

function pressed(event) {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = target.matches("input:not([type=checkbox]), select, textarea");
  if (typing && key !== "Escape") return;
  if (key === "?") byId("help-dialog").showModal();
  else if (key === "s") location.hash = body.dataset.view === "summary" ? "#questions" : "#summary";
  else if (body.dataset.view === "questions" && KEYS[key]) {
    if (key === "Enter" && target.matches("button, a, summary, input")) return;
    if (key.startsWith("Arrow") && target.id === "detail") return; // scrolls the text
    KEYS[key]();
  } else return;
  event.preventDefault();
}

// Where the browser keeps nothing for files, the choice lasts as long as the page.
function remembered(store) {
  try {
    return store(window.localStorage, window.sessionStorage);
  } catch {
    return null;
  }
}

function switchTheme() {
  const now = root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  remembered((storage) => storage.setItem("theme", root.dataset.theme));
}

function start() {
  const theme = remembered((storage) => storage.getItem("theme"));
  if (theme) root.dataset.theme = theme;
  byId("title").append(...Report.runs.map((_, i) => Summary.runLabel(i)));
  if (matchMedia("(max-width: 1100px)").matches) byId("filter-panel").open = false;
  Summary.draw(openQuestions);
  List.start(select);
  FilterForm.start(filtered);
  Zoom.start();
  Saving.start();
  follow();
  Live.restore();
  Live.start();
  window.addEventListener("hashchange", follow);
  document.addEventListener("keydown", pressed);
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId(body.dataset.view === "questions" ? "list" : "summary-view").focus();
  });
  byId("theme").addEventListener("click", switchTheme);
  byId("help").addEventListener("click", () => byId("help-dialog").showModal());
  requestAnimationFrame(() => setTimeout(() => performance.mark("ready")));
}

start();
