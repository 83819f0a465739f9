// Elements from data. Text becomes text nodes and nothing else: no markup is ever parsed here.
const Dom = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const CONTROL = /[\u0000-\u0008\u000b-\u001f]/g;

  // Text as a reader can see it: control characters get their pictures, and half of a surrogate
  // pair the replacement character.
  function visible(text) {
    const shown = text.replace(CONTROL, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)));
    return shown.replace(/\u007f/g, "\u2421").toWellFormed();
  }

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value === true ? "" : value);
    }
    for (const child of children.flat(Infinity)) {
      if (child !== null && child !== undefined && child !== false) node.append(child);
    }
    return node;
  }

  const h = (tag, attributes = {}, ...children) =>
    fill(document.createElement(tag), attributes, children);

  const s = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS(SVG, tag), attributes, children);

  // Text of a run or a benchmark: its own direction, kept apart from what stands around it.
  const foreign = (text, tag = "bdi", className = null) =>
    h(tag, { dir: "auto", class: className }, visible(text));

  // The beginning of a text on one line; what is cut off is never laid out.
  function brief(text, length = 240) {
    const line = text.slice(0, 2 * length).replace(/\s+/g, " ").trim();
    return line.length > length || text.length > 2 * length ? `${line.slice(0, length)}…` : line;
  }

  // A short name of a run, a group or a field, which may be anything.
  const name = (text) => foreign(brief(text, 60));

  const byId = (id) => document.getElementById(id);

  return { h, s, foreign, brief, name, visible, byId };
})();
