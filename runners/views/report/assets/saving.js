// The questions in the list, saved as a file: as they are filtered, in their order.
const Saving = (() => {
  const { h, byId } = Dom;
  const { runs, several, tasks } = Report;
  const FORMULA = /^[=+\-@\t\r]/;
  const fields = [...new Set(tasks.flatMap((task) => task.fields))];
  let rows = [];

  // A cell of a table. Text that a spreadsheet would take for a formula gets an apostrophe.
  function cell(value) {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    const text = FORMULA.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  const groupOf = (row, field) => row.groups[row.task.fields.indexOf(field)] ?? null;

  function csv() {
    const parts = ["outcome", "score", "answer", "read as", "failure"];
    const heads = ["benchmark", "question_id", "key", "question", "images", "targets", ...fields,
      ...runs.flatMap((run) => parts.map((part) => (several ? `${run.name} ${part}` : part)))];
    const lines = rows.map((row) => [
      row.task.name, row.id, row.key, row.question, row.images.map((image) => image.name).join(" | "),
      row.targets.map((target) => target.text).join(" | "), ...fields.map((field) => groupOf(row, field)),
      ...row.answers.flatMap((answer) => (answer
        ? [answer.outcome, answer.score, answer.text, answer.compared, answer.failure && `${answer.failure.cause}: ${answer.failure.message}`]
        : parts.map(() => null))),
    ]);
    return [heads, ...lines].map((line) => `${line.map(cell).join(",")}\n`).join("");
  }

  const record = (row) => ({
    benchmark: row.task.name, question_id: row.id, key: row.key, question: row.question,
    images: row.images.map((image) => image.name), targets: row.targets,
    groups: Object.fromEntries(row.task.fields.map((field, i) => [field, row.groups[i]])),
    answers: row.answers.map((answer, i) => answer && {
      run: runs[i].name, outcome: answer.outcome, score: answer.score, answer: answer.text, read_as: answer.compared, failure: answer.failure,
      finish_reason: answer.ending, min_margin: answer.margin, num_prompt_tokens: answer.numPromptTokens, num_new_tokens: answer.numNewTokens,
    }).filter(Boolean),
  });

  const jsonl = () => rows.map((row) => `${JSON.stringify(record(row))}\n`).join("");

  function save(suffix, type, text) {
    const address = URL.createObjectURL(new Blob([text], { type }));
    h("a", { href: address, download: `questions.${suffix}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }

  function start() {
    byId("save-csv").addEventListener("click", () => save("csv", "text/csv", csv()));
    byId("save-jsonl").addEventListener("click", () => save("jsonl", "application/jsonl", jsonl()));
  }

  return {
    start,
    choose: (chosen) => {
      rows = chosen;
    },
  };
})();
