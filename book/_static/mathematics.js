/* Typesets what the build has not (book/_ext/typeset.py): formulas of previews, and whole pages where
   it had no Chromium. MathJax is loaded when there is something to typeset, after the page is shown;
   then a few formulas at a time, so that the page obeys the reader meanwhile.
   `MathJax.startup.promise` holds when all is typeset. */
(() => {
  const AT_ONCE = 12; // formulas between two answers to the reader
  const PARTS = ["core", "input/tex", "output/chtml", "a11y/assistive-mml"];
  const root = new URL("mathjax/", document.currentScript.src);
  const raw = [...document.querySelectorAll(".math")].filter(formula => !formula.querySelector("mjx-container"));
  const shown = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  let loading = null;

  const load = () => loading ??= new Promise(ready => {
    window.MathJax.startup.pageReady = () => { ready(); return whole; };
    for (const part of ["startup", ...PARTS, "output/chtml/fonts/tex"]) {
      const href = new URL(`${part}.js`, root).href;
      // all are on their way before the first asks for the next
      document.head.append(Object.assign(document.createElement("link"), { rel: "preload", as: "script", href }));
    }
    document.head.append(Object.assign(document.createElement("script"), { src: new URL("startup.js", root).href }));
  });

  async function typeset(formulas) {
    await load();
    return MathJax.typesetPromise(formulas); // by now MathJax's own
  }

  async function page() {
    for (let k = 0; k < raw.length; k += AT_ONCE) {
      await shown();
      await typeset(raw.slice(k, k + AT_ONCE));
    }
  }

  window.MathJax = {
    ...window.MathJax,
    loader: { load: PARTS },
    startup: { typeset: false },
    typesetPromise: typeset,
  };
  const whole = window.MathJax.startup.promise = page();
})();
