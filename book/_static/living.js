/* Moves the living picture (book/_ext/living.py): Python computed every state, this shows one after the other.
   It plays once by itself, when it is first seen, and waits where the reader prefers less motion. Without it, the picture stands still. */
(() => {
  const figure = document.querySelector("figure.living");
  if (!figure) return;
  const { slots, states, phases, sentences, shown } = JSON.parse(figure.querySelector("script").textContent);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const parts = slots.map(([name, attribute]) => [figure.querySelector(`[data-part="${name}"]`), attribute]);
  const controls = figure.querySelector(".living-controls");
  const [play, back, on] = ["play", "back", "on"].map(name => controls.querySelector(`[data-do="${name}"]`));
  const slider = controls.querySelector("input");
  const now = figure.querySelector(".living-now");
  const last = states.length - 1;
  const STAGES = ["first", "second", "third", "fourth", "fifth"];
  let step = shown;
  let timer = null;

  function show(k, moving) {
    step = Math.max(0, Math.min(last, k));
    parts.forEach(([part, attribute], i) => part.setAttribute(attribute, states[step][i]));
    slider.value = step;
    now.textContent = sentences[step];
    slider.setAttribute("aria-valuetext", sentences[step].split(/[.:] /)[0]);
    // not disabled: a button that is would lose the keyboard
    back.setAttribute("aria-disabled", step === 0);
    on.setAttribute("aria-disabled", step === last);
    if (moving && !calm.matches) run(phases[step]);
  }

  /* A pulse on every path of this phase, one stage after the other */
  function run(phase) {
    for (const path of figure.querySelectorAll(`.pulse.both, .pulse.${phase}`)) {
      if (phase === "rest") return;
      const length = path.getTotalLength();
      const delay = 190 * STAGES.findIndex(stage => path.classList.contains(stage));
      path.style.strokeDasharray = `7 ${length}`;
      path.animate(
        [{ strokeDashoffset: 7, opacity: 0.9 }, { strokeDashoffset: -length, opacity: 0.9 }],
        { duration: 420, delay, easing: "ease-in-out" },
      );
    }
  }

  function playing(yes) {
    clearInterval(timer);
    timer = yes ? setInterval(advance, 1500) : null;
    play.textContent = yes ? "Pause" : step === last ? "Again" : "Play";
    // a screen reader hears the sentence when the reader steps, not every second
    now.setAttribute("aria-live", yes ? "off" : "polite");
  }

  function advance() {
    show(step + 1, true);
    if (step === last) playing(false);
  }

  const go = k => { playing(false); show(k, true); play.textContent = step === last ? "Again" : "Play"; };
  play.addEventListener("click", () => {
    if (timer) return playing(false);
    if (step === last) show(0, false);
    playing(true);
    advance();
  });
  back.addEventListener("click", () => go(step - 1));
  on.addEventListener("click", () => go(step + 1));
  slider.addEventListener("input", () => go(Number(slider.value)));
  document.addEventListener("visibilitychange", () => { if (document.hidden && timer) playing(false); });

  controls.hidden = false;
  figure.classList.add("live");
  if (calm.matches) return playing(false), show(shown, false);
  show(0, false);
  playing(false);
  // it starts when it is seen: on a phone it stands below the first screen
  new IntersectionObserver(([seen], observer) => {
    if (!seen.isIntersecting) return;
    observer.disconnect();
    if (step === 0) playing(true);
  }, { threshold: 0.3 }).observe(figure);
})();
