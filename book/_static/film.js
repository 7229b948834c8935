/* Plays films: images of class film, which are sheets of square frames, ten in a row, as
   companion.film writes them. A class film-4000ms says how far apart the frames are.
   Nothing moves before the reader presses Play. Without this script, the sheet is the picture. */
(() => {
  const COLUMNS = 10;
  const PER_SECOND = 8; // slow enough that no cell flashes more than three times a second
  let films = 0;

  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  function player(sheet) {
    const side = sheet.naturalWidth / COLUMNS;
    const last = COLUMNS * Math.round(sheet.naturalHeight / side) - 1;
    const apart = Number(/(?:^|\s)film-(\d+)ms(?:\s|$)/.exec(sheet.className)?.[1] ?? 1000) / 1000;
    const id = `film-${++films}`;

    const canvas = element("canvas", { width: side, height: side });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", sheet.alt);
    const button = element("button", { type: "button", textContent: "Play" });
    const slider = element("input", { type: "range", id, min: 0, max: last, step: 1, value: last });
    const time = element("output", { htmlFor: id });
    const controls = element("div", { className: "film-controls" }, button,
      element("label", { htmlFor: id, textContent: "Time" }), slider, time);
    const all = element("details", {}, element("summary", { textContent: "All frames" }));
    const box = element("div", { className: "film-player" }, canvas, controls, all);

    const pen = canvas.getContext("2d");
    const stamp = (k, opacity) => {
      pen.globalAlpha = opacity;
      pen.drawImage(sheet, (k % COLUMNS) * side, Math.floor(k / COLUMNS) * side, side, side, 0, 0, side, side);
    };
    // position: a frame's number; between two frames, the one fades into the other
    const show = position => {
      const k = Math.floor(position);
      pen.clearRect(0, 0, side, side);
      stamp(k, 1);
      if (position > k) stamp(k + 1, position - k);
      slider.value = k;
      time.value = `${Number((k * apart).toFixed(1))} s`;
      slider.setAttribute("aria-valuetext", time.value);
    };

    let playing = false;
    const play = on => {
      playing = on;
      button.textContent = on ? "Pause" : "Play";
      if (!on) return;
      const from = Number(slider.value) < last ? Number(slider.value) : 0;
      let begin = null;
      const advance = now => {
        if (!playing) return;
        begin ??= now;
        const position = Math.min(from + (now - begin) / 1000 * PER_SECOND, last);
        show(position);
        position < last ? requestAnimationFrame(advance) : play(false);
      };
      requestAnimationFrame(advance);
    };
    button.addEventListener("click", () => play(!playing));
    slider.addEventListener("input", () => { play(false); show(Number(slider.value)); });
    document.addEventListener("visibilitychange", () => { if (document.hidden) play(false); });

    sheet.replaceWith(box);
    all.append(sheet);
    show(last);
  }

  const start = () => document.querySelectorAll("img.film").forEach(async sheet => {
    sheet.loading = "eager";
    try { await sheet.decode(); } catch { return; } // the picture's alternative text remains
    player(sheet);
  });
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
})();
