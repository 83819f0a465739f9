// An image in full, over the page: fitted at first, then as large as one likes.
const Zoom = (() => {
  const { h, foreign, byId } = Dom;
  const STEP = 1.25;
  const LARGEST = 32;
  const SMALL = 96; // pictures below this many pixels are enlarged without blurring
  const box = byId("zoom-box");
  let picture = null;
  let scale = 1;

  const fitting = () =>
    Math.min(LARGEST, box.clientWidth / picture.naturalWidth, box.clientHeight / picture.naturalHeight);

  // Draws the picture at a scale; what stands in the middle stays there.
  function resize(to) {
    if (!picture?.naturalWidth) return;
    const middle = ["Left", "Top"].map((side, i) => {
      const [seen, all] = i ? [box.clientHeight, box.scrollHeight] : [box.clientWidth, box.scrollWidth];
      return (box[`scroll${side}`] + seen / 2) / all;
    });
    scale = Math.min(LARGEST, Math.max(0.02, to));
    picture.style.width = `${Math.floor(scale * picture.naturalWidth)}px`;
    box.scrollTo(middle[0] * box.scrollWidth - box.clientWidth / 2, middle[1] * box.scrollHeight - box.clientHeight / 2);
    byId("zoom-scale").textContent = `${Math.round(100 * scale)}%`;
  }

  const fit = () => resize(fitting());

  // Shows the first of the addresses that can be read; `note` says what a later one is.
  function load([address, ...others], name, note) {
    picture = h("img", {
      src: address, alt: `Image ${Dom.visible(name)}`,
      onload: ({ target }) => {
        target.classList.toggle("small", Math.max(target.naturalWidth, target.naturalHeight) < SMALL);
        fit();
      },
      onerror: () => {
        if (others.length) load(others, name, "The image in full cannot be read; this is the small one.");
        else {
          byId("zoom-scale").textContent = "";
          box.replaceChildren(h("p", { class: "no-picture" }, "The image cannot be read from ", foreign(decodeURI(address))));
        }
      },
      onclick: () => resize(Math.abs(scale - fitting()) < 0.01 ? 1 : fitting()),
    });
    byId("zoom-note").textContent = note;
    byId("zoom-scale").textContent = "loading …";
    box.replaceChildren(picture);
  }

  function show(image) {
    byId("zoom-name").replaceChildren(foreign(image.name));
    byId("zoom").showModal();
    box.focus();
    const [full, small] = [Report.fullOf(image), Report.pictureOf(image)];
    load([full, small].filter(Boolean), image.name, full ? "" : "Only the small image is in this page.");
  }

  const KEYS = { "+": () => resize(scale * STEP), "=": () => resize(scale * STEP), "-": () => resize(scale / STEP), 0: fit };

  function start() {
    byId("zoom-in").addEventListener("click", KEYS["+"]);
    byId("zoom-out").addEventListener("click", KEYS["-"]);
    byId("zoom-fit").addEventListener("click", fit);
    byId("zoom").addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
      KEYS[event.key]();
      event.preventDefault();
    });
  }

  return { show, start };
})();
