// A page that is served asks whether there are new answers, and then loads them; what the reader
// looks at stays as it is. Nothing of this is done in a file.
const Live = (() => {
  const { h, byId } = Dom;
  const { live } = Report;
  const PLACE = `llava-evals ${location.pathname}`;
  const SCROLLED = ["list", "detail", "filter-panel"];
  let paused = false;

  // Whether a new page would take something out of the reader's hands.
  const isBusy = () => document.hidden || document.querySelector("dialog[open]") !== null ||
    document.activeElement?.matches("#filters input, select") || !getSelection().isCollapsed;

  function keep() {
    const state = {
      filters: FilterForm.get(), focus: document.activeElement?.id ?? "", top: window.scrollY,
      scrolled: SCROLLED.map((id) => byId(id).scrollTop), reading: document.body.classList.contains("reading"),
      open: byId("filter-panel").open,
    };
    remembered((_, session) => session.setItem(PLACE, JSON.stringify(state)));
  }

  // Puts the reader where the last page was left; true if there was one.
  function restore() {
    const state = live && JSON.parse(remembered((_, session) => session.getItem(PLACE)) ?? "null");
    if (!state) return;
    remembered((_, session) => session.removeItem(PLACE));
    byId("filter-panel").open = state.open;
    FilterForm.put(state.filters);
    follow();
    document.body.classList.toggle("reading", state.reading);
    SCROLLED.forEach((id, i) => {
      byId(id).scrollTop = state.scrolled[i];
    });
    window.scrollTo(0, state.top);
    if (state.focus) byId(state.focus)?.focus({ preventScroll: true });
  }

  function tell(text) {
    byId("live-state").textContent = text;
  }

  const told = () => {
    const all = live.num_questions === null ? "" : ` of ${Format.count(live.num_questions)}`;
    return `${Format.count(live.num_answers)}${all} answers`;
  };

  async function look() {
    let version = null;
    try {
      const response = await fetch("version", { cache: "no-store" });
      if (response.ok) version = await response.text();
    } catch {
      version = null;
    }
    if (version === null) tell(`${told()} · the server does not reply`);
    else if (paused || version === live.version) tell(told());
    else if (isBusy()) tell(`${told()} · more have arrived`);
    else {
      keep();
      location.reload();
      return;
    }
    setTimeout(look, 1000 * live.every_s);
  }

  function start() {
    if (!live) return;
    const button = h("button", {
      type: "button", "aria-pressed": "false",
      onclick: () => {
        paused = !paused;
        button.setAttribute("aria-pressed", String(paused));
        button.textContent = paused ? "Go on" : "Pause";
      },
    }, "Pause");
    byId("live").append(h("a", { href: live.index }, "All runs"), h("span", { id: "live-state" }), button);
    byId("live").hidden = false;
    tell(told());
    setTimeout(look, 1000 * live.every_s);
  }

  return { start, restore };
})();
