// Looks for new answers, and shows them in place of the old figures.
"use strict";
const EVERY_MS = 3000;
const main = document.querySelector("main");

async function look() {
  try {
    const response = await fetch(location.href, { cache: "no-store" });
    const page = new DOMParser().parseFromString(response.ok ? await response.text() : "", "text/html");
    const found = page.querySelector("main");
    if (found && found.innerHTML !== main.innerHTML) main.innerHTML = found.innerHTML;
  } catch {
    // the server is gone, or was for a moment
  }
  setTimeout(look, EVERY_MS);
}

setTimeout(look, EVERY_MS);
