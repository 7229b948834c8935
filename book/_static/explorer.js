/* Explorers: figures of class explorer, as companion.explorer writes them. Each has its lines
   for every choice; the script makes the controls and puts the chosen lines in place. The choice
   stands in the address (#name?layer=2&head=3), so that it can be linked to. Without this script,
   the figure shows the first choice. */
(() => {
  const UNIT = 64, GAP = 65535;

  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  const decode = text => {
    const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
    return new DataView(bytes.buffer);
  };

  // place of a choice in an array in which axes of length 1 do not matter
  const place = (shape, state) =>
    shape.reduce((index, n, axis) => index * n + (n > 1 ? state[axis] : 0), 0);

  // squares around their middles
  function squares(line, first) {
    return line.x.map((x, k) => {
      const side = (line.side * line.y.getUint8(first + k)) / 255, half = side / 2;
      return side && `M${(x - half).toFixed(1)} ${(line.tops[k] - half).toFixed(1)}h${side.toFixed(1)}v${side.toFixed(1)}h${(-side).toFixed(1)}z`;
    }).filter(Boolean).join("");
  }

  function path(line, state) {
    const n = line.x.length, first = place(line.shape, state) * n;
    if (line.side) return squares(line, first);
    let d = "", pen = "M";
    for (let k = 0; k < n; k++) {
      const y = line.y.getUint16(2 * (first + k), true);
      if (y === GAP) { pen = "M"; continue; }
      d += `${pen}${line.x[k]} ${(y / UNIT).toFixed(1)}`;
      pen = "L";
    }
    return d;
  }

  function explore(figure) {
    const data = figure.explorer;
    const lines = data.lines.map((line, k) => ({
      ...line, y: decode(line.y), path: figure.querySelector(`[id="${figure.id}-line-${k}"] path`),
    }));
    const numbers = figure.querySelectorAll(".explorer-readouts dd");
    const command = figure.querySelector(".explorer-command pre");
    figure.querySelector(".explorer-status").setAttribute("role", "status");

    const controls = data.choices.map((choice, axis) => {
      const id = `${figure.id}-${choice.name}`;
      const input = choice.select
        ? element("select", { id }, ...choice.texts.map((t, i) => element("option", { value: i, textContent: t })))
        : element("input", { id, type: "range", min: 0, max: choice.values.length - 1, step: 1 });
      const output = element("output", { htmlFor: id });
      input.addEventListener("input", () => { state[axis] = Number(input.value); show(); });
      input.addEventListener("change", () => history.replaceState(history.state, "", address()));
      const label = element("label", { htmlFor: id, textContent: choice.label });
      figure.querySelector(".explorer-controls").append(
        element("div", {}, label, input, ...(choice.select ? [] : [output])));
      return { input, output };
    });

    let state = [...data.start];
    const address = () => `#${figure.id}?` +
      data.choices.map((c, axis) => `${c.name}=${encodeURIComponent(c.values[state[axis]])}`).join("&");

    function show() {
      lines.forEach(line => line.path.setAttribute("d", path(line, state)));
      data.readouts.forEach((r, k) => { numbers[k].textContent = r.texts[place(r.shape, state)]; });
      controls.forEach(({ input, output }, axis) => {
        const text = data.choices[axis].texts[state[axis]];
        input.value = state[axis];
        output.value = text;
        if (input.type === "range") input.setAttribute("aria-valuetext", text);
      });
      command.textContent = [data.command, ...data.choices
        .map((c, axis) => c.parameter ? `-p ${c.name}=${c.values[state[axis]]}` : "")
        .filter(Boolean)].join(" ");
    }

    // the choice in the address, if it is one of this explorer's
    function follow() {
      const [name, query = ""] = location.hash.slice(1).split("?");
      if (name !== figure.id) return;
      const asked = new URLSearchParams(query);
      state = data.choices.map((c, axis) => {
        const index = c.values.indexOf(asked.get(c.name));
        return index < 0 ? data.start[axis] : index;
      });
      show();
      figure.scrollIntoView();
    }

    show();
    follow();
    window.addEventListener("hashchange", follow);
  }

  // its data are a script of its own (book/_ext/first_paint.py), which can weigh more than the page
  function load(figure) {
    if (figure.querySelector("script")) return;
    const script = element("script", { src: figure.dataset.from });
    script.onload = () => explore(figure);
    figure.append(script);
  }

  const figures = [...document.querySelectorAll("figure.explorer")];
  const near = new IntersectionObserver(
    entries => entries.filter(e => e.isIntersecting).forEach(e => load(e.target)), { rootMargin: "1500px" });
  figures.forEach(figure => near.observe(figure));
  const loadNamed = () => figures.filter(figure => location.hash.slice(1).split("?")[0] === figure.id).forEach(load);
  window.addEventListener("hashchange", loadNamed);
  loadNamed();
})();
