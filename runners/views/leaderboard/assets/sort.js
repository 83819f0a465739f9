// Sorts a table by the column whose head is pressed: best first, worst first, as it was.
"use strict";
const NEXT = { none: "descending", descending: "ascending", ascending: "none" };

// Rows with a comparable figure come first, then those with a marked one, then those without.
const rank = (cell) => (cell.dataset.value === undefined ? 2 : Number("marked" in cell.dataset));

function order(column, direction) {
  const sign = direction === "descending" ? -1 : 1;
  if (column === 0) {
    return (a, b) => -sign * a.dataset.name.localeCompare(b.dataset.name, "en", { numeric: true });
  }
  return (a, b) => {
    const [first, second] = [a.cells[column], b.cells[column]];
    return rank(first) - rank(second) || sign * (first.dataset.value - second.dataset.value) || 0;
  };
}

for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.ariaSort = "none";
    button.addEventListener("click", () => {
      const direction = NEXT[head.ariaSort];
      for (const other of heads) other.ariaSort = "none";
      head.ariaSort = direction;
      body.append(...(direction === "none" ? rows : [...rows].sort(order(column, direction))));
    });
  });
  const box = table.parentElement;
  const hint = box.previousElementSibling;
  const tell = () => {
    hint.hidden = box.scrollWidth <= box.clientWidth;
  };
  new ResizeObserver(tell).observe(box);
  tell();
}
