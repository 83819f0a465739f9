// Which questions are shown: a state, and the rows that it lets through.
const Filters = (() => {
  const { rows, tasks, runs, change, several, others } = Report;
  const NEAR = 0.1;

  // What became of a question from the first run to another one.
  const CHANGES = {
    better: { label: "better", test: (row, i) => change(row, i) > 0 },
    worse: { label: "worse", test: (row, i) => change(row, i) < 0 },
    reworded: {
      label: "other answer, same score",
      test: (row, i) => change(row, i) === 0 && row.answers[0].text !== row.answers[i].text,
    },
    same: {
      label: "same answer",
      test: (row, i) => row.answers[0] !== null && row.answers[0].text === row.answers[i]?.text,
    },
  };

  const isNear = (answer) => answer.margin !== null && answer.margin < NEAR;

  const MANNERS = {
    near: { label: `nearly tied (margin under ${NEAR})`, test: isNear },
    replayed: { label: "computed again, alone", test: (answer) => answer.replayed },
    flipped: { label: "changed when computed again", test: (answer) => answer.flipped },
    unread: {
      label: "nothing could be read",
      test: (answer) => answer.score !== null && answer.compared === null && !answer.failure,
    },
    cut: { label: "cut off at the limit", test: (answer) => ["length", "context"].includes(answer.ending) },
  };

  const smallestMargin = (row) => Math.min(...row.answers.map((answer) => answer?.margin ?? Infinity));
  const longest = (row) => Math.max(...row.answers.map((answer) => answer?.text.length ?? 0));
  const lowest = (row) => Math.min(...row.answers.map((answer) => answer?.score ?? Infinity));

  const largestLoss = (row) => Math.min(...others.map((i) => change(row, i) ?? 0));

  const ORDERS = {
    benchmark: { label: "of the benchmark", key: null },
    margin: { label: "smallest margin first", key: smallestMargin },
    score: { label: "lowest score first", key: lowest },
    length: { label: "longest answer first", key: (row) => -longest(row) },
    ...(several && { change: { label: "largest loss first", key: largestLoss } }),
  };

  const initial = () => ({
    text: "",
    task: "",
    groups: {},
    outcomes: runs.map(() => []),
    changes: runs.map(() => []),
    manners: [],
    cause: "",
    order: "benchmark",
  });

  // Everything of a row that the search looks at, in one text.
  function searched(row) {
    row.searched ??= [
      row.question,
      row.key,
      row.id,
      ...row.targets.map((target) => target.text),
      ...row.answers.map((answer) => answer?.text ?? ""),
    ].join("\n").toLowerCase();
    return row.searched;
  }

  // One test for each part of the state that asks for something.
  function tests(state) {
    const found = [];
    const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
    const task = tasks.find((entry) => entry.name === state.task);
    if (task && tasks.length > 1) found.push((row) => row.task === task);
    for (const [field, group] of Object.entries(state.groups)) {
      const place = task ? task.fields.indexOf(field) : -1;
      if (place >= 0) found.push((row) => row.groups[place] === group);
    }
    state.outcomes.forEach((wanted, i) => {
      if (wanted.length) found.push((row) => row.answers[i] !== null && wanted.includes(row.answers[i].outcome));
    });
    state.changes.forEach((wanted, i) => {
      if (wanted.length) found.push((row) => wanted.some((name) => CHANGES[name].test(row, i)));
    });
    if (state.manners.length) {
      const asked = state.manners.map((name) => MANNERS[name].test);
      found.push((row) => row.answers.some((answer) => answer && asked.some((test) => test(answer))));
    }
    if (state.cause) found.push((row) => row.answers.some((answer) => answer?.failure?.cause === state.cause));
    // Last, because it is the slowest.
    if (words.length) found.push((row) => words.every((word) => searched(row).includes(word)));
    return found;
  }

  // The rows that pass, in the chosen order.
  function apply(state) {
    const asked = tests(state);
    const passed = asked.length ? rows.filter((row) => asked.every((test) => test(row))) : rows;
    const { key } = ORDERS[state.order];
    if (!key) return passed;
    const keys = new Map(passed.map((row) => [row, key(row)]));
    return [...passed].sort((a, b) => keys.get(a) - keys.get(b) || a.index - b.index);
  }

  const isActive = (state) => tests(state).length > 0;

  return { CHANGES, MANNERS, ORDERS, initial, apply, isActive };
})();
