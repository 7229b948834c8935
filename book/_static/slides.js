/* Slides on the full screen: arrows, Page up and down, Space, Home and End; Escape ends it. See slides.py. */
(() => {
  const deck = document.querySelector(".slides"), slides = [...deck.children];
  const STEPS = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1, Home: -Infinity, End: Infinity };

  function shown(on) {
    deck.classList.toggle("on-screen", on);
    slides.forEach(slide => on ? slide.setAttribute("tabindex", -1) : slide.removeAttribute("tabindex"));
  }
  function go(k) {
    const slide = slides[Math.max(0, Math.min(k, slides.length - 1))];
    slide.scrollIntoView();
    slide.focus({ preventScroll: true });
  }
  const end = Object.assign(document.createElement("button"), { className: "slides-close", type: "button", textContent: "×", ariaLabel: "End the show" });
  end.addEventListener("click", () => { shown(false); if (document.fullscreenElement) document.exitFullscreen(); });
  deck.append(end);

  const current = () => slides.findIndex(slide => slide.getBoundingClientRect().bottom > innerHeight / 2);

  document.querySelector(".slides-open").addEventListener("click", async () => {
    await deck.requestFullscreen?.().catch(() => {}); // a phone may refuse: the slides then fill the window
    shown(true);
    go(0);
  });
  document.addEventListener("fullscreenchange", () => { if (!document.fullscreenElement) shown(false); });
  document.addEventListener("keydown", event => {
    if (!deck.matches(".on-screen") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") shown(false);
    if (!(event.key in STEPS)) return;
    event.preventDefault();
    go(current() + STEPS[event.key]);
  });
})();
