// One question in full: images, targets, what each run answered, and the prompt as it was given.
const Detail = (() => {
  const { h, foreign, name, byId } = Dom;
  const { several } = Report;
  let promptsOpen = false; // stays as it was from question to question
  const SMALL = 96; // pictures below this many pixels are enlarged without blurring

  function figure(image) {
    const source = Report.pictureOf(image);
    const name = Dom.visible(image.name);
    const picture = source
      ? h("img", {
        src: source, alt: `Image ${name}`,
        onload: ({ target }) => target.classList.toggle("small", Math.max(target.naturalWidth, target.naturalHeight) < SMALL),
      })
      : h("div", { class: "no-picture" }, Report.whyNoPicture(image));
    const canZoom = source || Report.fullOf(image);
    return h("figure", {}, canZoom
      ? h("button", { type: "button", class: "enlarge", "aria-label": `Enlarge image ${name}`, title: "Enlarge (z)", onclick: () => Zoom.show(image) }, picture)
      : picture, h("figcaption", {}, foreign(image.name)));
  }

  function targets(row) {
    if (!row.targets.length) return null;
    const total = row.targets.reduce((sum, target) => sum + target.count, 0);
    return h("div", { class: "targets" }, h("h3", {}, row.targets.length > 1 || total > 1 ? "Targets" : "Target"),
      h("ul", {}, row.targets.map(({ text, count }) =>
        h("li", {}, text ? foreign(text) : h("i", {}, "empty"), total > 1 && h("small", {}, ` ×${count}`)))));
  }

  function badge(answer) {
    const { mark, label } = Format.OUTCOMES[answer.outcome];
    const isFraction = answer.score > 0 && answer.score < 1;
    return h("span", { class: `badge ${answer.outcome}` }, h("span", { "aria-hidden": "true" }, mark), ` ${label}`,
      isFraction && ` ${answer.score.toFixed(2)}`);
  }

  function facts(answer) {
    const known = [
      answer.margin !== null && `smallest margin ${answer.margin.toPrecision(3)}`,
      answer.replayed && (answer.flipped ? "computed again, alone, which changed it" : "computed again, alone"),
      answer.ending && (answer.ending === "stop" ? "ended by itself" : `cut off (${answer.ending})`),
      answer.numPromptTokens !== null && `${Format.plural(answer.numPromptTokens, "token")} in`,
      answer.numNewTokens !== null && `${Format.count(answer.numNewTokens)} out`,
      answer.latency !== null && Format.seconds(answer.latency),
      answer.attempts > 1 && Format.plural(answer.attempts, "attempt"),
    ];
    return h("p", { class: "fine" }, known.filter(Boolean).join(" · "));
  }

  function reading(answer) {
    if (answer.score === null || answer.failure) return null;
    if (answer.compared === null) return h("p", { class: "read" }, "Nothing could be read from it.");
    if (answer.compared === answer.text) return null;
    return h("p", { class: "read" }, "Read as ", foreign(answer.compared, "q"));
  }

  function card(answer, i) {
    const head = several ? Summary.runLabel(i) : h("span", {}, "Answer");
    if (!answer) return h("section", { class: "card" }, h("h3", {}, head), h("p", {}, "This run was not asked the question."));
    const body = answer.failure
      ? [h("p", { class: "cause" }, foreign(answer.failure.cause)), foreign(answer.failure.message, "p")]
      : [answer.text ? foreign(answer.text, "pre", "answer") : h("p", {}, h("i", {}, "The answer is empty.")), reading(answer)];
    return h("section", { class: `card ${answer.outcome}` }, h("h3", {}, head, badge(answer)), body, facts(answer));
  }

  function prompt({ isRendered, head, turn, tail }, label) {
    const title = isRendered ? "Prompt as rendered" : "Question as stored; the template is not known";
    const remember = (event) => {
      promptsOpen = event.target.open;
    };
    return h("details", { class: "prompt", open: promptsOpen, ontoggle: remember }, h("summary", {}, title, label && [" · ", label]),
      h("pre", { dir: "auto" }, h("span", { class: "frame" }, Dom.visible(head)), Dom.visible(turn), h("span", { class: "frame" }, Dom.visible(tail))));
  }

  function prompts(row) {
    const given = row.answers.map((answer, i) => answer && { i, prompt: answer.prompt }).filter(Boolean);
    const same = given.every((entry) => JSON.stringify(entry.prompt) === JSON.stringify(given[0].prompt));
    return same ? [prompt(given[0].prompt, null)] : given.map((entry) => prompt(entry.prompt, Summary.runLabel(entry.i)));
  }

  function groups(row) {
    const known = row.task.fields.map((field, i) => [field, row.groups[i]]).filter(([, group]) => group !== null);
    return known.length ? h("dl", { class: "groups" }, known.map(([field, group]) =>
      h("div", {}, h("dt", {}, name(field.replaceAll("_", " "))), h("dd", {}, foreign(Dom.brief(group)))))) : null;
  }

  // Shows a question; `go` moves by steps, `back` returns to the list.
  function show(row, { go, back }) {
    const pane = byId("detail");
    if (!row) {
      pane.replaceChildren(h("p", { class: "nothing" }, "No question is selected. Press j, or choose one."));
      return;
    }
    const place = List.has(row) ? `${Format.count(List.position(row) + 1)} of ${Format.count(List.count())}` : "";
    pane.replaceChildren(
      h("div", { class: "detail-head" },
        h("button", { type: "button", class: "back", onclick: back }, "‹ List"),
        h("h2", {}, name(row.task.name), " ", name(row.id)),
        h("span", { class: "fine" }, place),
        h("a", { href: Report.addressOf(row), title: "Link to this question" }, "link"),
        h("button", { type: "button", "aria-label": "Previous question", onclick: () => go(-1) }, "‹"),
        h("button", { type: "button", "aria-label": "Next question", onclick: () => go(1) }, "›")),
      ...[row.images.length > 0 && h("div", { class: "images" }, row.images.map(figure)),
        foreign(row.question, "pre", "asked"), targets(row),
        h("div", { class: "cards" }, row.answers.map(card)), groups(row), ...prompts(row)].filter(Boolean));
    pane.scrollTop = 0;
  }

  return { show };
})();
