// The summary: what the runs are, their scores with intervals, failures, and every breakdown.
const Summary = (() => {
  const { h, foreign, name: named, byId } = Dom;
  const { runs, tasks, letters, several, others, toneOf } = Report;

  const runLabel = (i) =>
    h("span", { class: `run ${toneOf(i)}` }, several && h("b", {}, letters[i]), named(runs[i].name));

  const sum = (counts) => Object.values(counts).reduce((total, n) => total + n, 0);

  // A link that opens the questions under a filter.
  const questionsLink = (open, filter, ...content) =>
    h("button", { type: "button", class: "link", onclick: () => open(filter) }, ...content);

  const NUMBERS = new Set(["Score", "Difference to A", "95% interval", "Answered", "Failed", "Unread", "Better than A", "Worse than A", "Questions"]);
  const silent = (text) => h("span", { class: "hidden" }, text); // a head that is only read aloud

  // Says of a table that is wider than the screen that it scrolls, and lets keys scroll it.
  const watcher = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const isWide = target.scrollWidth > target.clientWidth + 1;
      target.previousElementSibling.hidden = !isWide;
      if (isWide) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });

  function table(head, body, caption) {
    const cells = head.map((cell) => h("th", { scope: "col", class: NUMBERS.has(cell) ? "number" : null }, cell));
    const box = h("div", { class: "scroll", role: "region", "aria-label": caption },
      h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, h("tr", {}, cells)), h("tbody", {}, body)));
    watcher.observe(box);
    return [h("p", { class: "fine scrolls", hidden: true }, "The columns scroll sideways →"), box];
  }

  // The score over the questions that were answered, where these are not all.
  function ofAnswered(summary) {
    const value = summary.metrics_answered?.[summary.primary_metric];
    if (summary.coverage === 1 || value === undefined) return null;
    return h("small", { class: "below" }, `${Format.metric(value, Format.scaleOf(summary, summary.primary_metric))} of answered`);
  }

  function scoreRow(task, i, open) {
    const summary = task.summaries[i];
    if (!summary) return null;
    const name = summary.primary_metric;
    const value = summary.metrics[name] ?? null;
    const values = task.summaries.map((other) => other?.metrics[name] ?? 0);
    const scale = Format.scaleOf(summary, name);
    const isShare = scale.unit === "share";
    const ends = task.summaries.map((other) => other?.interval?.[1] ?? 0);
    // Without a largest value the runs decide how long a bar is.
    const largest = isPercent(scale) ? 1 : Math.max(scale.largest ?? Number(isShare), ...values, ...ends);
    const interval = Format.interval(summary.interval, scale);
    const text = value === null ? "no annotations" : `${Format.metric(value, scale)} ${interval}`;
    const failed = sum(summary.num_failed);
    const filter = { task: task.name, run: i, outcomes: ["failed"] };
    const scored = task.summaries.filter(Boolean);
    return h("tr", {},
      summary === scored[0] && h("th", { scope: "rowgroup", rowspan: scored.length },
        questionsLink(open, { task: task.name }, named(task.name)),
        h("small", { class: "below" }, `${summary.split} · ${name}`)),
      several && h("td", {}, runLabel(i)),
      h("td", { class: "number strong" }, Format.metric(value, scale), summary.coverage < 1 && "*", ofAnswered(summary)),
      h("td", { class: "plot" }, value !== null && (isShare || several) && Charts.bar(value, summary.interval, {
        largest, className: toneOf(i), label: text })),
      h("td", { class: "number" }, interval),
      h("td", { class: "number" }, `${Format.count(summary.num_answered)} / ${Format.count(summary.num_questions)}`),
      h("td", { class: "number" }, failed ? questionsLink(open, filter, Format.count(failed)) : "0"),
      h("td", { class: "number" }, Format.count(summary.num_unparsed)));
  }

  const isPercent = (scale) => scale.unit === "share" && scale.largest === 1;

  function scores(open) {
    const summaries = tasks.flatMap((task) => task.summaries.filter(Boolean));
    const axis = summaries.every((s) => isPercent(Format.scaleOf(s, s.primary_metric))) ? "0 to 100" : "from 0";
    const head = ["Benchmark", several && "Run", "Score", axis, "95% interval", "Answered", "Failed", "Unread"];
    const body = tasks.flatMap((task) => runs.map((_, i) => scoreRow(task, i, open)));
    const incomplete = tasks.some((task) => task.summaries.some((s) => s && s.coverage < 1));
    return h("section", {}, h("h2", {}, "Scores"),
      table(head.filter(Boolean), body.filter(Boolean), "Scores by benchmark and run"),
      h("p", { class: "fine" }, summaries.some((s) => s.interval) && "Whiskers are 95% intervals, with errors clustered by image. ",
        summaries.some((s) => s.num_unparsed) && "Unread: answers from which nothing could be read. ",
        incomplete && "* Not every question was answered: see above what that means."));
  }

  function comparisonRow(task, i, largest, open) {
    const found = task.comparisons[i];
    const text = `${Format.signed(found.difference)} points`;
    const filter = (change) => ({ task: task.name, run: i, changes: [change] });
    const bounds = found.interval && found.interval.map(Format.signed).join(" to ");
    return h("tr", {},
      h("th", { scope: "row" }, questionsLink(open, { task: task.name }, named(task.name))),
      h("td", {}, runLabel(i)),
      h("td", { class: "number strong" }, Format.signed(found.difference)),
      h("td", { class: "plot" }, Charts.difference(found.difference, found.interval, { largest, label: text })),
      h("td", { class: "number" }, bounds ?? ""),
      h("td", { class: "number" }, questionsLink(open, filter("better"), Format.count(found.num_better))),
      h("td", { class: "number" }, questionsLink(open, filter("worse"), Format.count(found.num_worse))),
      h("td", { class: "number" }, Format.count(found.num_common)));
  }

  function comparison(open) {
    const known = tasks.flatMap((task) => others.filter((i) => task.comparisons[i]).map((i) => [task, i]));
    if (!known.length) return null;
    const ends = known.flatMap(([task, i]) => [task.comparisons[i].difference, ...(task.comparisons[i].interval ?? [])]);
    const largest = Math.max(0.01, ...ends.map(Math.abs));
    const head = ["Benchmark", "Run", "Difference to A", "around 0", "95% interval", "Better than A", "Worse than A", "Questions"];
    return h("section", {}, h("h2", {}, runs.length === 2 ? "From A to B" : "Against A"),
      table(head, known.map(([task, i]) => comparisonRow(task, i, largest, open)), "Differences to the first run"),
      h("p", { class: "fine" }, "Mean score of a question on those that both runs were asked, in percentage points, paired and clustered by image. A dot is colored where the interval leaves 0 out."));
  }

  function failures(open) {
    const body = tasks.flatMap((task) => runs.flatMap((_, i) =>
      Object.entries(task.summaries[i]?.num_failed ?? {}).map(([cause, number]) => {
        const example = task.rows.find((row) => row.answers[i]?.failure?.cause === cause);
        return h("tr", {},
          h("th", { scope: "row" }, named(task.name)),
          several && h("td", {}, runLabel(i)),
          h("td", {}, questionsLink(open, { task: task.name, run: i, cause }, named(cause))),
          h("td", { class: "number" }, Format.count(number)),
          h("td", { class: "message" }, example && foreign(Dom.brief(example.answers[i].failure.message))));
      })));
    const all = tasks.every((task) => task.summaries.every((s) => s?.coverage === 1));
    const head = ["Benchmark", several && "Run", "Cause", "Questions", "For example"].filter(Boolean);
    return h("section", {}, h("h2", {}, "Failures"),
      body.length ? table(head, body, "Failures by cause") : h("p", {}, all ? "Every question was answered." : "None is recorded."));
  }

  function notes() {
    const found = tasks.flatMap((task) => task.notes.map((note) =>
      h("li", {}, h("b", {}, named(task.name)), " ", foreign(note))));
    const lost = tasks.flatMap((task) => task.rows).flatMap((row) => row.images);
    const leftOut = new Set(lost.filter((image) => image.picture === -1).map((image) => image.name)).size;
    if (leftOut) {
      found.push(h("li", {}, `${Format.plural(leftOut, "image")} left out to keep the page small (max_thumbnails).`));
    }
    return found.length ? h("section", { class: "notes" }, h("h2", {}, "Before you read on"), h("ul", {}, found)) : null;
  }

  function facts() {
    const names = [...new Set(runs.flatMap((run) => Object.keys(run.facts)))];
    const body = names.map((name) => {
      const values = runs.map((run) => run.facts[name] ?? "");
      const differs = values.some((value) => value !== values[0]);
      return h("tr", { class: differs ? "differs" : null }, h("th", { scope: "row" }, name.replaceAll("_", " ")),
        values.map((value) => h("td", { class: "fact" }, foreign(Dom.brief(value, 600)))));
    });
    return h("section", {}, h("h2", {}, several ? "The runs" : "The run"),
      table([silent("Fact"), ...runs.map((_, i) => runLabel(i))], body, "What the runs are"));
  }

  function breakdown(task, field, open) {
    const groups = [...new Set(task.summaries.flatMap((s) => Object.keys(s?.breakdowns?.[field] ?? {})))];
    const canOpen = task.fields.includes(field);
    const figuresOf = (i, group) => task.summaries[i]?.breakdowns?.[field]?.[group];
    const body = groups.flatMap((group) => runs.map((_, i) => i).filter((i) => figuresOf(i, group)).map((i, place, known) => {
      const figures = figuresOf(i, group);
      const [name, value] = Object.entries(figures).find(([metric]) => metric !== "num_questions") ?? ["", null];
      const scale = Format.scaleOf(task.summaries[i], name);
      const label = `${Dom.brief(group, 60)}: ${Format.metric(value, scale)}`;
      return h("tr", {},
        place === 0 && h("th", { scope: "rowgroup", rowspan: known.length },
          canOpen ? questionsLink(open, { task: task.name, field, group }, named(group)) : named(group)),
        h("td", { class: "plot" }, value !== null && scale.largest !== null &&
          Charts.bar(value, null, { largest: scale.largest, className: toneOf(i), label })),
        h("td", { class: "number strong" }, Format.metric(value, scale)),
        h("td", { class: "number" }, Format.count(figures.num_questions ?? 0)));
    }));
    return h("div", { class: "breakdown" }, h("h4", {}, named(field.replaceAll("_", " "))),
      table(["Group", silent("Bar"), "Score", "Questions"], body, `${task.name} by ${field}`));
  }

  function metrics(task) {
    const names = [...new Set(task.summaries.flatMap((s) => Object.keys(s?.metrics ?? {})))];
    if (!names.length) return null;
    const body = names.map((name) => h("tr", {}, h("th", { scope: "row" }, name),
      task.summaries.map((s) => h("td", { class: "number" }, Format.metric(s?.metrics[name] ?? null, Format.scaleOf(s, name))))));
    return h("div", { class: "breakdown" }, h("h4", {}, "all metrics"),
      table(["Metric", ...runs.map((_, i) => runLabel(i))], body, `Metrics of ${task.name}`));
  }

  // How many answers were computed again because a token was nearly tied.
  function recomputed(task) {
    const known = task.summaries.map((s, i) => [i, s?.batch_check]).filter(([, check]) => check);
    return h("p", { class: "fine" }, known.map(([i, { recomputed: n, flipped }], place) =>
      [place > 0 && "; ", several && `${letters[i]}: `, `${Format.plural(n, "nearly tied answer")} computed again alone, ${Format.count(flipped)} of them changed`]));
  }

  function taskSection(task, open) {
    const fields = [...new Set(task.summaries.flatMap((s) => Object.keys(s?.breakdowns ?? {})))];
    const definition = task.summaries.find(Boolean)?.definition;
    const changed = task.differences.length && h("details", {}, h("summary", {}, "What differs between the runs"),
      h("ul", { class: "plain" }, task.differences.map(([name, ...values]) => h("li", {}, h("code", {}, name), " ",
        values.map((value, i) => [i > 0 && " → ", foreign(Dom.brief(JSON.stringify(value), 60))])))));
    return h("section", { class: "task" }, h("h3", {}, named(task.name), " ", definition && h("small", {}, definition)),
      recomputed(task), changed || null,
      h("div", { class: "breakdowns" }, metrics(task), fields.map((field) => breakdown(task, field, open))));
  }

  // Draws the summary once; `open` shows the questions under a filter.
  function draw(open) {
    byId("summary-view").append(...[notes(), scores(open), several && comparison(open), failures(open), facts(),
      h("h2", {}, "Benchmarks"), ...tasks.map((task) => taskSection(task, open))].filter(Boolean));
  }

  return { draw, runLabel };
})();
