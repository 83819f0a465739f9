// The report as objects. The positions are those that `runners/views/report/payload.py` writes.
const Report = (() => {
  const parse = (id) => JSON.parse(Dom.byId(id).textContent);
  const { runs, outcomes, tasks: written, texts } = parse("data");
  const LEFT_OUT = -1;
  let pictures = null; // read when the first one is shown
  let originals = null;

  const text = (number) => (number === null ? null : texts[number]);

  function readAnswer(entry) {
    if (entry === null) return null;
    const [outcome, answer, score, compared, prompt, failure, ending, ...rest] = entry;
    const [numPromptTokens, numNewTokens, margin, replayed, flipped, latency, attempts] = rest;
    return {
      outcome: outcomes[outcome],
      text: texts[answer],
      score,
      compared: text(compared),
      prompt: {
        isRendered: Boolean(prompt[0]),
        head: texts[prompt[1]],
        turn: texts[prompt[2]],
        tail: texts[prompt[3]],
      },
      failure: failure && { cause: texts[failure[0]], message: texts[failure[1]] },
      ending: text(ending),
      numPromptTokens,
      numNewTokens,
      margin,
      replayed: Boolean(replayed),
      flipped: Boolean(flipped),
      latency,
      attempts,
    };
  }

  function readRow([key, id, question, images, targets, groups, answers], task) {
    return {
      task,
      key: texts[key],
      id: texts[id],
      question: texts[question],
      images: images.map(([name, picture, full]) => ({ name: texts[name], picture, full })),
      targets: targets.map(([target, count]) => ({ text: texts[target], count })),
      groups: groups.map(text),
      answers: answers.map(readAnswer),
      searched: null,
    };
  }

  // The line with which all questions end, such as "Answer with a single word."; empty if none.
  function sharedLastLine(questions) {
    const [first] = questions;
    const line = first ? first.question.slice(first.question.lastIndexOf("\n") + 1) : "";
    const ending = `\n${line}`;
    return line && questions.length > 1 && questions.every((row) => row.question.endsWith(ending)) ? ending : "";
  }

  // A question without what all of its benchmark have in common.
  const essence = (row) => row.question.slice(0, row.question.length - row.task.instruction.length).replaceAll("<image>", "");

  const tasks = written.map((entry) => ({ ...entry, rows: null }));
  const rows = written.flatMap((entry, i) => entry.rows.map((row) => readRow(row, tasks[i])));
  for (const task of tasks) {
    task.rows = rows.filter((row) => row.task === task);
    task.instruction = sharedLastLine(task.rows);
  }
  rows.forEach((row, i) => {
    row.index = i;
  });

  // The part of the address that leads to a question.
  const addressOf = (row) =>
    `#question/${[row.task.name, row.key].map((s) => encodeURIComponent(s.toWellFormed())).join("/")}`;
  const byAddress = new Map(rows.map((row) => [addressOf(row), row]));

  // The address of a picture; null if it is not among those that the page holds.
  function pictureOf(image) {
    if (image.picture < 0) return null;
    pictures ??= parse("pictures");
    return pictures[image.picture];
  }

  // The address of an image in full; null if it is not had.
  function fullOf(image) {
    if (image.full < 0) return null;
    originals ??= parse("originals");
    return originals[image.full];
  }

  const whyNoPicture = (image) =>
    image.picture === LEFT_OUT ? "not among the pictures of this page" : "cannot be opened";

  // By how much the score of a run differs from the first run's; null where either has none.
  function change(row, i) {
    const [before, after] = [row.answers[0], row.answers[i]];
    if (!before || !after || before.score === null || after.score === null) return null;
    return after.score - before.score;
  }

  return {
    runs,
    tasks,
    rows,
    outcomes,
    live: parse("live-data"),
    several: runs.length > 1,
    others: runs.map((_, i) => i).slice(1),
    letters: [..."ABCDEFGHIJKLMNOPQRSTUVWXYZ"],
    toneOf: (i) => `run-${"abcdefgh"[i % 8]}`, // there are eight colors
    essence,
    hasImages: rows.some((row) => row.images.length),
    addressOf,
    rowAt: (address) => byAddress.get(address) ?? null,
    pictureOf,
    fullOf,
    whyNoPicture,
    change,
  };
})();
