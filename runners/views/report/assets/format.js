// Figures as text.
const Format = (() => {
  const SHARE = { unit: "share", largest: 1 };

  // The scale of a metric, which its summary says where it is no share of 1.
  const scaleOf = (summary, name) => summary?.scales[name] ?? SHARE;

  // A share as a percentage, points as they are, other numbers with more digits.
  function metric(value, scale = SHARE) {
    if (value === null || value === undefined) return "–";
    const factor = scale.unit === "share" ? 100 : 1;
    return (factor * value).toFixed(scale.unit === "number" ? 4 : 2);
  }

  // The ends of an interval, in the unit of its value.
  const interval = (pair, scale) => (pair ? pair.map((end) => metric(end, scale)).join(" to ") : "");

  const signed = (value) =>
    value === null ? "–" : `${value > 0 ? "+" : value < 0 ? "−" : ""}${metric(Math.abs(value))}`;

  const count = (number) => number.toLocaleString("en-US");

  // A length of time that is short or long.
  const seconds = (value) => (value < 1 ? `${(1000 * value).toFixed(1)} ms` : `${value.toFixed(2)} s`);

  const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

  const OUTCOMES = {
    right: { mark: "✓", label: "right" },
    partly: { mark: "◐", label: "partly right" },
    wrong: { mark: "✗", label: "wrong" },
    failed: { mark: "!", label: "failed" },
    unscored: { mark: "·", label: "not scored" },
  };

  return { scaleOf, metric, interval, signed, count, seconds, plural, OUTCOMES };
})();
