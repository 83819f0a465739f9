// Figures as text.
const Format = (() => {
  const NOT_A_SHARE = new Set(["distribution"]); // no fraction although its values are small

  // A fraction as a percentage; points, which are larger than 1, as they are.
  function metric(value, name = "") {
    if (value === null || value === undefined) return "–";
    if (NOT_A_SHARE.has(name)) return value.toFixed(4);
    return Math.abs(value) <= 1 ? (100 * value).toFixed(2) : value.toFixed(2);
  }

  // The ends of an interval, in the unit of the value on whichever side of 1 they lie.
  function interval(pair, value) {
    if (!pair) return "";
    const scale = Math.abs(value) <= 1 ? 100 : 1;
    return pair.map((end) => (scale * end).toFixed(2)).join(" to ");
  }

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

  return { metric, interval, signed, count, seconds, plural, OUTCOMES };
})();
