/* The box for a reader's own sentence (book/_ext/sentence.py). Its tables, a row of numbers for each word, are
   loaded when the reader first asks; then everything is computed here: word pieces, the queries and keys of one
   head, softmax attention, and the circuit in a worker, which adds hidden neurons until there are as many as the
   slider says. The sentence, the neurons and the word chosen stand in the address (#own-sentence?text=...).
   Without this script, the box shows one sentence. */
(() => {
  const figure = document.getElementById("own-sentence");
  if (!figure?.dataset.from) return;

  const LONGEST = 100;  // characters of a word that is split; a longer one is [UNK], as for the model
  const ROOM = 1.25;  // of the gauges, relative to the largest Z
  const DRAWN = 5;  // lines from a word, to those that it listens to most
  const sizes = JSON.parse(figure.dataset.sizes);

  /* --- words: as BERT splits them (Devlin et al. 2019) */

  const MARKS = /(\[(?:PAD|UNK|CLS|SEP|MASK)\])/;
  const IDEOGRAPHS = [[0x4E00, 0x9FFF], [0x3400, 0x4DBF], [0x20000, 0x2A6DF], [0x2A700, 0x2B73F], [0x2B740, 0x2B81F],
    [0x2B920, 0x2CEAF], [0xF900, 0xFAFF], [0x2F800, 0x2FA1F]];
  const ideograph = c => IDEOGRAPHS.some(([low, high]) => c.codePointAt(0) >= low && c.codePointAt(0) <= high);

  function normal(text) {
    const clean = [...text].filter(c => "\t\n\r".includes(c) || !/[\p{C}\uFFFD]/u.test(c))
      .map(c => /\p{White_Space}/u.test(c) ? " " : ideograph(c) ? ` ${c} ` : c).join("");
    const bare = clean.normalize("NFD").replace(/\p{Mn}/gu, "");
    return [...bare].map(c => c.toLowerCase()).join("");
  }

  const apart = text => text.replace(/[!-/:-@[-`{-~]|\p{P}/gu, " $& ").split(" ").filter(Boolean);

  function pieces(word, places) {
    const letters = [...word], found = [];
    if (letters.length > LONGEST) return ["[UNK]"];
    for (let start = 0; start < letters.length;) {
      let end = letters.length, piece;
      for (; end > start; end--) {
        piece = (start ? "##" : "") + letters.slice(start, end).join("");
        if (places.has(piece)) break;
      }
      if (end === start) return ["[UNK]"];
      found.push(piece);
      start = end;
    }
    return found;
  }

  const split = (text, places) => ["[CLS]", ...text.split(MARKS).flatMap((part, k) =>
    k % 2 ? [part] : apart(normal(part)).flatMap(word => pieces(word, places))), "[SEP]"];

  /* --- the head: queries and keys of each word at its place, and what softmax attention makes of them */

  function opened(tables) {
    const packed = atob(tables.rows), rows = new Uint8Array(packed.length);
    for (let i = 0; i < rows.length; i++) rows[i] = packed.charCodeAt(i);
    return { ...tables, rows, of: new Map(tables.vocabulary.split("\n").map((word, row) => [word, row])) };
  }

  // numbers of a row: 2 d projected, the mean of the word's vector, its factors, its mean square
  function row(t, word) {
    const first = t.of.get(word) * t.width, n = t.low.length;
    const numbers = Array.from({ length: n }, (_, j) => t.low[j] + t.step[j] * t.rows[first + j]);
    const square = t.square[0] + t.square[1] * (t.rows[first + n] + 256 * t.rows[first + n + 1]);
    return { projected: numbers.slice(0, 2 * t.d), mean: numbers[2 * t.d], factors: numbers.slice(2 * t.d + 1), square };
  }

  function heads(t, words) {
    const q = new Float64Array(words.length * t.d), k = q.slice();
    words.forEach((word, at) => {
      const w = row(t, word), mean = w.mean + t.means[at];
      const product = w.factors.reduce((sum, f, r) => sum + f * t.factors[at][r], 0);
      const sigma = Math.sqrt(w.square + t.squares[at] + product - mean * mean + t.eps);
      for (let j = 0; j < 2 * t.d; j++) {
        const x = (w.projected[j] + t.places[at][j] - mean * t.sums[j]) / sigma + t.offsets[j];
        if (j < t.d) q[at * t.d + j] = x;
        else k[at * t.d + j - t.d] = x;
      }
    });
    return { q, k };
  }

  // sums and shares of a matrix of weights, row by row
  function shares(kernel, n) {
    const rows = Array.from({ length: n }, (_, t) => Array.from(kernel.subarray(t * n, (t + 1) * n)));
    const sums = rows.map(r => r.reduce((a, b) => a + b, 0));
    return { sums, weights: rows.map((r, t) => r.map(x => x / sums[t])) };
  }

  function softmax({ q, k }, n, d) {
    const kernel = new Float64Array(n * n);
    for (let t = 0; t < n; t++) for (let i = 0; i < n; i++) {
      let score = 0;
      for (let j = 0; j < d; j++) score += q[t * d + j] * k[i * d + j];
      kernel[t * n + i] = Math.exp(score);
    }
    return shares(kernel, n);
  }

  /* --- the circuit, in a worker: this function is its whole script */

  function circuit() {
    let job = null, running = false;

    // uniform in (0, 1), with one seed for all sentences: the same neurons hear each of them (mulberry32)
    function generator(seed) {
      return () => {
        let x = seed = (seed + 0x6D2B79F5) | 0;
        x = Math.imul(x ^ (x >>> 15), x | 1);
        x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
        return (((x ^ (x >>> 14)) >>> 0) + 0.5) / 4294967296;
      };
    }

    // a neuron's preferred direction: standard normal (Box and Muller 1958)
    function direction(uniform, into) {
      for (let j = 0; j < into.length; j += 2) {
        const radius = Math.sqrt(-2 * Math.log(uniform())), angle = 2 * Math.PI * uniform();
        into[j] = radius * Math.cos(angle);
        into[j + 1] = radius * Math.sin(angle);
      }
    }

    // phi(x) = exp(direction . x - |x|^2 / 2) of every token, for one neuron
    function activity(omega, x, halves, into) {
      for (let t = 0; t < into.length; t++) {
        let drive = -halves[t];
        for (let j = 0; j < omega.length; j++) drive += omega[j] * x[t * omega.length + j];
        into[t] = Math.exp(drive);
      }
    }

    function halves(x, d) {
      return Array.from({ length: x.length / d }, (_, t) => x.subarray(t * d, (t + 1) * d).reduce((a, b) => a + b * b / 2, 0));
    }

    // one neuron after the other adds phi(q) phi(k) to every pair; at each size asked for, the mean is sent
    function work() {
      const { q, k, n, d, sizes, kernel, omega, read, write } = job, started = Date.now();
      while (job.next <= job.upto && Date.now() - started < 40) {
        for (let block = 0; block < 100 && job.made < sizes[job.next]; block++, job.made++) {
          direction(job.uniform, omega);
          activity(omega, q, job.of_q, read);
          activity(omega, k, job.of_k, write);
          for (let t = 0; t < n; t++) for (let i = 0; i < n; i++) kernel[t * n + i] += read[t] * write[i];
        }
        if (job.made === sizes[job.next])
          postMessage({ job: job.name, step: job.next++, kernel: kernel.map(x => x / job.made) });
      }
      running = job.next <= job.upto;
      if (running) setTimeout(work);
    }

    onmessage = ({ data }) => {
      if (data.q) {
        const n = data.q.length / data.d;
        job = { ...data, n, made: 0, next: 0, uniform: generator(1), of_q: halves(data.q, data.d), of_k: halves(data.k, data.d),
          kernel: new Float64Array(n * n), omega: new Float64Array(data.d), read: new Float64Array(n), write: new Float64Array(n) };
      } else job.upto = Math.max(job.upto, data.upto);
      if (!running) { running = true; work(); }
    };
  }

  /* --- the box */

  const form = figure.querySelector(".own-form"), text = form.querySelector("input"), button = form.querySelector("button");
  const slider = figure.querySelector(".own-slider input"), output = figure.querySelector(".own-slider output");
  const picture = figure.querySelector(".own-picture"), list = figure.querySelector(".own-words");
  const now = figure.querySelector(".own-now");
  const SVG = "http://www.w3.org/2000/svg";
  const lines = document.createElementNS(SVG, "svg");
  lines.setAttribute("aria-hidden", "true");

  let tables = null;  // a promise of them, once asked for
  let worker = null;
  let seen = null;  // the sentence shown: words, exact, circuit by step, chosen, hovered

  const load = () => tables ??= new Promise((done, fail) => {
    const script = Object.assign(document.createElement("script"), { src: figure.dataset.from });
    script.onload = () => done(opened(figure.tables));
    script.onerror = () => { script.remove(); tables = null; fail(new Error("the tables did not come")); };
    figure.append(script);
  });

  function start(words, exact, of, d, chosen, note) {
    const name = (seen?.name ?? 0) + 1;
    seen = { name, words, exact, of, circuit: [], hovered: null, note,
      chosen: chosen >= 0 && chosen < words.length ? chosen : words.length - 2 };
    if (!worker) {
      worker = new Worker(URL.createObjectURL(new Blob([`(${circuit})()`], { type: "text/javascript" })));
      worker.onmessage = ({ data }) => {
        if (data.job !== seen.name) return;
        seen.circuit[data.step] = shares(data.kernel, seen.words.length);
        draw();
      };
    }
    list.replaceChildren(...words.map(box));
    picture.prepend(lines);
    figure.classList.add("live");
    worker.postMessage({ job: name, name, ...of, d, sizes, upto: Number(slider.value) });
    draw();
  }

  function box(word, at) {
    const element = (tag, className, ...children) => {
      const made = Object.assign(document.createElement(tag), { className });
      made.append(...children);
      return made;
    };
    const gauge = element("span", "own-gauge", element("span", "own-bar"), element("span", "own-tick"));
    const made = element("button", "own-word", element("span", "own-token", word), gauge);
    made.type = "button";
    made.addEventListener("click", () => choose(at));
    made.addEventListener("pointerenter", e => { if (e.pointerType === "mouse") { seen.hovered = at; draw(); } });
    made.addEventListener("pointerleave", () => { seen.hovered = null; draw(); });
    made.addEventListener("keydown", e => {
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: seen.words.length - 1 }[e.key];
      if (to === undefined) return;
      e.preventDefault();
      choose(Math.max(0, Math.min(seen.words.length - 1, to)));
      list.querySelectorAll("button")[seen.chosen].focus();
    });
    return element("li", "", made);
  }

  function choose(at) {
    seen.chosen = at;
    draw();
    remember();
  }

  // the largest size that is computed, up to the one asked for
  function reached() {
    let step = Number(slider.value);
    while (step >= 0 && !seen.circuit[step]) step--;
    return step;
  }

  function draw() {
    const step = reached(), circuit = seen.circuit[step], at = seen.hovered ?? seen.chosen;
    const top = ROOM * Math.max(...seen.exact.sums);
    list.querySelectorAll("button").forEach((word, t) => {
      const p = circuit?.sums[t];
      word.querySelector(".own-bar").style.height = p ? `${Math.min(100, 100 * p / top)}%` : "0";
      word.querySelector(".own-bar").classList.toggle("over", p > top);
      word.querySelector(".own-tick").style.bottom = `${100 * seen.exact.sums[t] / top}%`;
      word.classList.toggle("listens", t === at);
      word.setAttribute("aria-pressed", t === seen.chosen);
      word.tabIndex = t === seen.chosen ? 0 : -1;
      word.setAttribute("aria-label", seen.words[t] + (p ? `: p ${digits(p)}, Z ${digits(seen.exact.sums[t])}` : ""));
    });
    const error = circuit && median(circuit.sums.map((p, t) => Math.abs(p / seen.exact.sums[t] - 1)));
    now.textContent = [seen.note, told(at, circuit), circuit
      ? `With ${sizes[step].toLocaleString("en")} neurons, p is off by less than ${(100 * error).toPrecision(2)}% in half of the words` +
        `, and by ${(100 * Math.abs(circuit.sums[at] / seen.exact.sums[at] - 1)).toPrecision(2)}% in this one.`
      : "", step < Number(slider.value) ? "More neurons are being added." : ""].filter(Boolean).join(" ");
    connect(at, circuit);
  }

  const digits = x => x >= 99.95 ? x.toFixed(0) : x.toPrecision(3);
  const median = x => { const sorted = [...x].sort((a, b) => a - b), n = x.length;
    return (sorted[(n - 1) >> 1] + sorted[n >> 1]) / 2; };

  const largest = (weights, count) => weights.map((w, i) => i).sort((a, b) => weights[b] - weights[a]).slice(0, count);

  function told(at, circuit) {
    const weights = seen.exact.weights[at];
    const share = i => `“${seen.words[i]}” ${(100 * weights[i]).toFixed(0)}%` +
      (circuit ? ` (circuit ${(100 * circuit.weights[at][i]).toFixed(0)}%)` : "");
    return `“${seen.words[at]}” listens most to ${largest(weights, 3).map(share).join(", ")}.`;
  }

  // lines from a word to those it listens to: exact over the words, the circuit's under them
  function connect(at, circuit) {
    const frame = picture.getBoundingClientRect();
    lines.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
    const boxes = [...list.querySelectorAll("button")].map(b => {
      const r = b.getBoundingClientRect();
      return { x: r.x + r.width / 2 - frame.x, top: r.top - frame.top, bottom: r.bottom - frame.top };
    });
    const paths = [];
    for (const [side, weights, name] of [["top", seen.exact.weights[at], "own-exact"], ["bottom", circuit?.weights[at] ?? [], "own-circuit"]])
      largest(weights, DRAWN + 1).filter(i => i !== at).slice(0, DRAWN).forEach(i => {
        const a = boxes[at], b = boxes[i], away = (side === "top" ? -1 : 1) * Math.min(26, 12 + Math.abs(a.x - b.x) / 12);
        const path = document.createElementNS(SVG, "path");
        path.setAttribute("d", `M${a.x} ${a[side]}C${a.x} ${a[side] + away * 1.33} ${b.x} ${b[side] + away * 1.33} ${b.x} ${b[side]}`);
        path.setAttribute("class", name);
        path.setAttribute("stroke-width", 1 + 16 * weights[i]);
        path.dataset.to = i;
        paths.push(path);
      });
    lines.replaceChildren(...paths);
  }

  const address = () => `#own-sentence?text=${encodeURIComponent(text.value)}&neurons=${sizes[slider.value]}&word=${seen.chosen}`;
  const remember = () => history.replaceState(history.state, "", address());

  async function show(chosen = -1) {
    if (!text.value.trim()) { now.textContent = "Write a few words first."; text.focus(); return false; }
    if (!tables) now.textContent = "The numbers of all words are on their way: 2 to 3 MB, once.";
    button.setAttribute("aria-busy", "true");
    let t;
    try { t = await load(); }
    catch { now.textContent = "The numbers of the words did not come. Try again when the network is there."; return false; }
    finally { button.removeAttribute("aria-busy"); }
    const { words, note } = read(t, text.value);
    const of = heads(t, words);
    start(words, softmax(of, words.length, t.d), of, t.d, chosen, note);
    return true;
  }

  // word pieces, of which the table of places has room for so many
  function read(t, sentence) {
    const all = split(sentence, t.of), most = t.places.length;
    if (all.length <= most) return { words: all, note: "" };
    return { words: [...all.slice(0, most - 1), "[SEP]"], note: `Only the first ${most - 2} pieces are read.` };
  }

  function slid() {
    output.value = sizes[slider.value].toLocaleString("en");
    slider.setAttribute("aria-valuetext", `${output.value} neurons`);
    if (!seen) return;
    worker.postMessage({ upto: Number(slider.value) });
    draw();
  }

  // the sentence in the address, if there is one: who follows such a link has asked for it
  async function follow() {
    const [name, query = ""] = location.hash.slice(1).split("?");
    const asked = new URLSearchParams(query);
    if (name !== figure.id || !asked.get("text")) return;
    text.value = asked.get("text").slice(0, text.maxLength);
    const step = sizes.indexOf(Number(asked.get("neurons")));
    slider.value = step < 0 ? figure.dataset.shown : step;
    slid();
    figure.scrollIntoView();
    await show(asked.has("word") ? Number(asked.get("word")) : -1);
  }

  form.addEventListener("submit", async e => { e.preventDefault(); if (await show()) remember(); });
  slider.addEventListener("input", slid);
  slider.addEventListener("change", async () => { if (seen || await show()) remember(); });
  new ResizeObserver(() => { if (seen) connect(seen.hovered ?? seen.chosen, seen.circuit[reached()]); }).observe(picture);
  window.addEventListener("hashchange", follow);
  form.hidden = slider.parentElement.hidden = false;
  figure.companion = { load, read, heads, softmax, circuit };  // for tests
  follow();
})();
