// Bars with intervals, drawn as SVG in percent of the width, so that they fit any screen.
const Charts = (() => {
  const { s } = Dom;
  const HEIGHT = 16;

  const line = (x1, x2, y1, y2, className) =>
    s("line", { x1: `${x1}%`, x2: `${x2}%`, y1, y2, class: className });

  // One bar from 0 to `value` on a scale to `largest`, with the interval as a whisker.
  function bar(value, pair, { largest = 1, className = "", label = "" } = {}) {
    const at = (x) => 100 * Math.min(1, Math.max(0, x / largest));
    const parts = [25, 50, 75].map((x) => line(x, x, 0, HEIGHT, "grid"));
    parts.push(s("rect", { x: 0, y: 3, width: `${at(value)}%`, height: HEIGHT - 6, rx: 2, class: "fill" }));
    if (pair) {
      const [low, high] = pair.map(at);
      parts.push(line(low, high, HEIGHT / 2, HEIGHT / 2, "whisker"));
      for (const x of [low, high]) parts.push(line(x, x, 4, HEIGHT - 4, "whisker"));
    }
    return s("svg", { class: `chart ${className}`, height: HEIGHT, role: "img", "aria-label": label }, parts);
  }

  // A difference around zero, as a dot on its interval; colored where the interval leaves zero out.
  function difference(value, pair, { largest, label }) {
    const at = (x) => 50 + 48 * Math.min(1, Math.max(-1, x / largest));
    const parts = [line(50, 50, 0, HEIGHT, "zero")];
    if (pair) parts.push(line(at(pair[0]), at(pair[1]), HEIGHT / 2, HEIGHT / 2, "whisker"));
    const tone = pair?.[0] > 0 ? "better" : pair?.[1] < 0 ? "worse" : "equal";
    parts.push(s("circle", { cx: `${at(value)}%`, cy: HEIGHT / 2, r: 4, class: `dot ${tone}` }));
    return s("svg", { class: "chart", height: HEIGHT, role: "img", "aria-label": label }, parts);
  }

  return { bar, difference };
})();
