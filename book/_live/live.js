/* A chapter's parameters as fields, and its cells run in this page, on a click; see book/_ext/live.py. */
const here = new URL(".", import.meta.url).href;

const element = (name, properties, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};
const MB = bytes => (bytes / 1e6).toFixed(0);

function field(p) {
  const id = `live-${p.name}`;
  const input = p.choices.length
    ? element("select", { id }, ...p.choices.map(c => element("option", { value: c, textContent: c })))
    : element("input", { id, type: "number", required: true, min: p.limits[0], max: p.limits[1], step: p.kind === "int" ? 1 : "any" });
  input.name = p.name;
  input.value = p.default;
  const unit = p.unit === "none" ? "" : ` (${p.unit})`;
  return element("div", {},
    element("label", { htmlFor: id }, element("code", { textContent: p.name }), ` ${p.meaning}${unit}; ${p.allowed}`), input);
}

export async function open(button, slug) {
  button.disabled = true;
  document.head.append(element("link", { rel: "stylesheet", href: here + "live.css" }));
  const page = await (await fetch(`${here}${slug}.json`)).json();
  const status = element("p", { className: "live-status", role: "status" });
  const bar = element("progress", { max: 1, value: 0, ariaLabel: "progress" });
  const run = element("button", { textContent: "Run", disabled: true });
  const stop = element("button", { type: "button", textContent: "Stop", disabled: true });
  const reset = element("button", { type: "reset", textContent: "The book's values" });
  const report = element("div", { className: "live-report" });
  const form = element("form", { className: "live" }, ...page.parameters.map(field),
    element("p", {}, run, " ", stop, " ", reset), bar, status, report);
  form.addEventListener("reset", event => {
    event.preventDefault();
    page.parameters.forEach(p => { form.elements[p.name].value = p.default; });
  });
  button.replaceWith(form);

  const total = Object.values(page.sizes).reduce((a, b) => a + b, 0);
  let worker, results = [], counts, said = 0;

  // the result of a cell, under what the book has there
  function place(cell, ...content) {
    const box = element("div", { className: "live-result" }, ...content);
    document.getElementById(`cell-${cell}`)?.after(box);
    results.push(box);
    return box;
  }

  function figure(m) {
    const far = Number(m.deviation);
    const verdict = m.deviation === null ? "the book has no numbers to compare with"
      : m.same ? "the same as the book's"
      : Number.isFinite(far) ? `differs from the book's by up to ${(100 * far).toPrecision(2)} %` : "differs from the book's in its points";
    const url = URL.createObjectURL(new Blob([m.svg], { type: "image/svg+xml" }));
    const box = place(m.cell, element("p", { textContent: `With your values: ${verdict}.` }),
      element("img", { src: url, alt: `${m.figure} with your values: ${verdict}` }));
    box.dataset.figure = m.figure;
    box.dataset.deviation = m.deviation;
    const number = document.getElementById(m.figure)?.querySelector(".caption-number")?.textContent.trim();
    counts.figures.push([m.cell, number ?? m.figure, m.same]);
  }

  function claimed(m) {
    const box = place(m.cell, element("p", { textContent: "With your values:" }));
    box.insertAdjacentHTML("beforeend", m.claim.html);
    box.dataset.claim = m.claim.name;
    box.dataset.observed = m.claim.observed;
    box.dataset.holds = m.claim.holds;
    counts.claims.push([m.cell, m.claim.statement, m.claim.holds]);
  }

  const line = ([cell, text, good], words) =>
    element("li", {}, element("a", { href: `#cell-${cell}`, textContent: text }), `: ${words[Number(good)]}`);

  function finish() {
    const { figures, claims, left } = counts, holding = claims.filter(c => c[2]).length;
    status.textContent = `Done. ${holding} of ${claims.length} claims hold; ` +
      `${figures.filter(f => f[2]).length} of ${figures.length} figures are the same as the book's; ${left.length} ${left.length === 1 ? "cell" : "cells"} did not run.`;
    report.replaceChildren(element("ul", {},
      ...claims.filter(c => !c[2]).map(c => line(c, ["fails with your values", ""])),
      ...figures.map(f => line(f, ["differs from the book's", "the same as the book's"])),
      ...left.map(([cell, reason]) => element("li", { className: "live-left" },
        element("a", { href: `#cell-${cell}`, textContent: "A cell did not run" }), `: ${reason}`))));
    idle();
  }

  function idle() { run.disabled = false; stop.disabled = true; bar.hidden = true; }

  function hear({ data: m }) {
    if (m.error) { status.textContent = `Not done: ${m.error}`; idle(); if (!counts) run.disabled = true; }
    else if (m.ready) { status.textContent = "Ready. Change a value and run."; idle(); }
    else if (m.finished) finish();
    else if (m.loaded !== undefined) {
      bar.value = Math.min(1, m.loaded / total);
      if (MB(m.loaded) !== said) status.textContent = `Loading Python from this site: ${said = MB(m.loaded)} of ${MB(total)} MB.`;
    } else if (m.place !== undefined) {
      bar.value = m.place / page.cells.length;
      status.textContent = `Running cell ${m.place + 1} of ${page.cells.length}.`;
    } else if (m.svg) figure(m);
    else if (m.claim) claimed(m);
    else if (m.text) {
      const plain = m.text.replace(/\{[\w:]+\}`([^`]*)`/g, "$1");
      place(m.cell, element("p", { className: "live-text", textContent: `With your values: ${plain}` }));
    }
    else if (m.reason) counts.left.push([m.cell, m.reason]);
  }

  function start() {
    worker = new Worker(here + "live-worker.js");
    worker.onmessage = hear;
    worker.onerror = e => hear({ data: { error: e.message } });
    worker.postMessage({ page });
    bar.hidden = false;
  }

  form.addEventListener("submit", event => {
    event.preventDefault();
    results.forEach(box => box.remove());
    results = [];
    counts = { figures: [], claims: [], left: [] };
    report.replaceChildren();
    run.disabled = true; stop.disabled = false; bar.hidden = false;
    worker.postMessage({ values: Object.fromEntries(new FormData(form)) });
  });
  stop.addEventListener("click", () => {
    worker.terminate();
    stop.disabled = true;
    start();  // its files are in the browser's cache
  });
  start();
}
