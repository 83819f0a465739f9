// The list of questions. Only the rows in sight exist as elements, whatever the number of questions.
const List = (() => {
  const { h, foreign, brief, byId } = Dom;
  const { runs, several, letters, toneOf } = Report;
  const MOST_TEXTS = 3; // of more runs a row shows the outcomes alone
  const MARGIN = 8; // rows kept above and below those in sight
  const box = byId("list");
  const canvas = h("div", { class: "canvas", role: "presentation" });
  const drawn = new Map();
  let shown = [];
  let selected = null;
  let place = new Map();
  let choose = () => {};

  const rowHeight = () => parseFloat(getComputedStyle(box).getPropertyValue("--row-height"));

  function thumbnail(row) {
    if (!Report.hasImages) return null;
    const [image] = row.images;
    const source = image && Report.pictureOf(image);
    if (!source) return h("span", { class: "thumb none", "aria-hidden": "true" }, image ? "?" : "");
    const picture = h("img", { class: "thumb", src: source, alt: "", decoding: "async" });
    return row.images.length > 1 ? h("span", { class: "stack" }, picture, h("b", {}, row.images.length)) : picture;
  }

  function answer(entry, i) {
    if (!entry) return h("span", { class: "said" }, several && h("b", { class: "letter" }, letters[i]), "not asked");
    const { mark, label } = Format.OUTCOMES[entry.outcome];
    const text = entry.failure ? entry.failure.cause : entry.text;
    return h("span", { class: `said ${entry.outcome}` },
      several && h("b", { class: `letter ${toneOf(i)}` }, letters[i]),
      h("span", { class: "mark", title: label }, h("span", { "aria-hidden": "true" }, mark), h("span", { class: "hidden" }, label)),
      runs.length <= MOST_TEXTS && (text ? foreign(brief(text, 120)) : h("i", {}, "empty")));
  }

  function element(row, i) {
    const targets = row.targets.map((target) => target.text).join(", ");
    return h("div", {
      class: "item", role: "option", id: `row-${row.index}`, "aria-setsize": shown.length, "aria-posinset": i + 1,
      "aria-selected": String(row === selected),
    },
      thumbnail(row),
      h("div", { class: "body" },
        h("div", { class: "question" }, foreign(brief(Report.essence(row)))),
        h("div", { class: "answers" }, row.answers.map(answer),
          targets && h("span", { class: "target" }, "→ ", foreign(brief(targets, 80))))),
      Report.tasks.length > 1 && h("span", { class: "tag" }, row.task.name));
  }

  // Draws the rows in sight and drops those that are far out of it.
  function render() {
    const height = rowHeight();
    const first = Math.max(0, Math.floor(box.scrollTop / height) - MARGIN);
    const last = Math.min(shown.length, Math.ceil((box.scrollTop + box.clientHeight) / height) + MARGIN);
    for (const [i, node] of drawn) {
      if (i < first || i >= last) {
        node.remove();
        drawn.delete(i);
      }
    }
    for (let i = first; i < last; i += 1) {
      if (!drawn.has(i)) {
        const node = element(shown[i], i);
        node.style.top = `${i * height}px`;
        node.addEventListener("click", () => choose(shown[i], { opened: true }));
        drawn.set(i, node);
        canvas.append(node);
      }
    }
  }

  function redraw() {
    drawn.clear();
    canvas.replaceChildren();
    canvas.style.height = `${shown.length * rowHeight()}px`;
    render();
  }

  // Shows these rows from the top.
  function show(rows) {
    shown = rows;
    place = new Map(rows.map((row, i) => [row, i]));
    box.scrollTop = 0;
    redraw();
    if (place.has(selected)) reveal(selected);
  }

  function reveal(row) {
    const height = rowHeight();
    const top = place.get(row) * height;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + height > box.scrollTop + box.clientHeight) box.scrollTop = top + height - box.clientHeight;
    render();
  }

  function select(row) {
    selected = row;
    if (place.has(row)) reveal(row);
    for (const [i, node] of drawn) node.setAttribute("aria-selected", String(shown[i] === row));
    if (row && place.has(row)) box.setAttribute("aria-activedescendant", `row-${row.index}`);
    else box.removeAttribute("aria-activedescendant");
  }

  // The row so many steps from the selected one.
  function neighbor(step) {
    if (!shown.length) return null;
    const from = place.get(selected);
    if (from === undefined) return step > 0 ? shown[0] : shown.at(-1);
    return shown[Math.min(shown.length - 1, Math.max(0, from + step))];
  }

  function start(onchoose) {
    choose = onchoose;
    box.append(canvas);
    box.addEventListener("scroll", render, { passive: true });
    new ResizeObserver(redraw).observe(box);
  }

  return {
    start, show, select, neighbor, render: redraw,
    first: () => shown[0] ?? null,
    last: () => shown.at(-1) ?? null,
    has: (row) => place.has(row),
    position: (row) => place.get(row),
    count: () => shown.length,
  };
})();
