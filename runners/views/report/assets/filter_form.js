// The form over the filters; only what occurs in the report is offered.
const FilterForm = (() => {
  const { h, name, brief, visible, byId } = Dom;
  const { rows, tasks, runs, several, others, letters } = Report;
  const IS = "="; // before the value of a group, which may be empty
  let state = Filters.initial();
  let changed = () => {};

  const tally = (items) => {
    const counts = new Map();
    for (const item of items) counts.set(item, (counts.get(item) ?? 0) + 1);
    return counts;
  };

  const described = (text, count) => `${visible(brief(text, 60))} (${Format.count(count)})`;

  function update(change) {
    state = { ...state, ...change };
    changed(state);
  }

  // A row of checkboxes that look like chips; the chosen values are given to `onchange`.
  function chips(legend, entries, chosen, onchange) {
    const box = ([value, label, count, className]) =>
      h("label", { class: `chip ${className ?? ""}` },
        h("input", {
          type: "checkbox", value, checked: chosen.includes(value),
          onchange: (event) => {
            const boxes = event.target.closest("fieldset").querySelectorAll("input:checked");
            onchange([...boxes].map((checked) => checked.value));
          },
        }),
        h("span", {}, label, " ", h("small", {}, Format.count(count))));
    return entries.length ? h("fieldset", {}, h("legend", {}, legend), entries.map(box)) : null;
  }

  function select(label, options, chosen, onchange) {
    const choices = options.map(([value, text]) => h("option", { value, selected: value === chosen }, text));
    return h("label", { class: "field" }, h("span", {}, label),
      h("select", { onchange: (event) => onchange(event.target.value) }, choices));
  }

  function outcomeChips(i) {
    const counts = tally(rows.filter((row) => row.answers[i]).map((row) => row.answers[i].outcome));
    const entries = Report.outcomes.filter((name) => counts.has(name)).map((name) => {
      const { mark, label } = Format.OUTCOMES[name];
      return [name, `${mark} ${label}`, counts.get(name), name];
    });
    const legend = several ? Summary.runLabel(i) : "Outcome";
    return chips(legend, entries, state.outcomes[i], (chosen) =>
      update({ outcomes: state.outcomes.map((before, j) => (j === i ? chosen : before)) }));
  }

  function changeChips(i) {
    const entries = Object.entries(Filters.CHANGES)
      .map(([name, { label, test }]) => [name, label, rows.filter((row) => test(row, i)).length, name])
      .filter(([, , count]) => count);
    return chips(`From A to ${letters[i]}`, entries, state.changes[i], (chosen) =>
      update({ changes: state.changes.map((before, j) => (j === i ? chosen : before)) }));
  }

  function mannerChips() {
    const answers = rows.flatMap((row) => row.answers).filter(Boolean);
    const entries = Object.entries(Filters.MANNERS)
      .map(([name, { label, test }]) => [name, label, answers.filter(test).length])
      .filter(([, , count]) => count);
    return chips("How it was answered", entries, state.manners, (manners) => update({ manners }));
  }

  function causeSelect() {
    const causes = tally(rows.flatMap((row) => row.answers).map((answer) => answer?.failure?.cause).filter(Boolean));
    if (!causes.size) return null;
    const options = [...causes].map(([cause, count]) => [cause, described(cause, count)]);
    return select("Cause of failure", [["", "any"], ...options], state.cause, (cause) => update({ cause }));
  }

  function taskSelect() {
    if (tasks.length < 2) return null;
    const options = tasks.map((task) => [task.name, `${task.name} (${Format.count(task.rows.length)})`]);
    return select("Benchmark", [["", "all"], ...options], state.task, (task) => {
      update({ task, groups: {} });
      drawGroups();
    });
  }

  // One choice for each breakdown field of the chosen benchmark.
  function drawGroups() {
    const task = tasks.find((entry) => entry.name === state.task);
    const fields = task ? task.fields : [];
    byId("group-fields").replaceChildren(...fields.map((field, place) => {
      const counts = tally(task.rows.map((row) => row.groups[place]).filter((group) => group !== null));
      const options = [...counts].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }))
        .map(([group, count]) => [IS + group, described(group, count)]);
      const chosen = field in state.groups ? IS + state.groups[field] : "";
      return select(name(field.replaceAll("_", " ")), [["", "any"], ...options], chosen, (value) => {
        const { [field]: _, ...others } = state.groups;
        update({ groups: value ? { ...others, [field]: value.slice(IS.length) } : others });
      });
    }));
  }

  function draw() {
    const search = h("input", {
      id: "search", type: "search", placeholder: "Search questions and answers", "aria-label": "Search questions, targets and answers",
      value: state.text, autocomplete: "off", spellcheck: "false",
      oninput: (event) => update({ text: event.target.value }),
    });
    const reset = h("button", { type: "button", class: "reset", onclick: () => set({}) }, "Clear all filters");
    byId("filters").replaceChildren(...[search, taskSelect(), h("div", { id: "group-fields" }),
      ...runs.map((_, i) => outcomeChips(i)), ...others.map(changeChips), mannerChips(), causeSelect(), reset].filter(Boolean));
    drawGroups();
  }

  // Starts anew with the given filters, and shows them in the form.
  function set({ task = "", run = 0, outcomes = [], changes = [], field, group, ...rest }) {
    const only = tasks.length === 1 ? tasks[0].name : task;
    const ofRun = (chosen) => runs.map((_, i) => (i === run ? chosen : []));
    put({
      ...Filters.initial(), order: state.order, ...rest, task: only,
      groups: field ? { [field]: group } : {}, outcomes: ofRun(outcomes), changes: ofRun(changes),
    });
  }

  function put(wanted) {
    state = { ...Filters.initial(), ...wanted };
    byId("sort").value = state.order;
    draw();
    changed(state);
  }

  function start(onchange) {
    changed = onchange;
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    const sort = byId("sort");
    sort.append(...Object.entries(Filters.ORDERS).map(([value, { label }]) => h("option", { value }, label)));
    sort.addEventListener("change", () => update({ order: sort.value }));
    set({});
  }

  return { start, set, put, get: () => state };
})();
