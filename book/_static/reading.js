/* Helps reading: previews of symbols, terms, citations, equations, figures and chapters; code opened by its
   link; equations made to fit a phone. Without it, every link still leads to what it would have shown. */
(() => {
  const article = document.querySelector(".bd-article");
  if (!article) return;

  /* --- previews: what they show is at hand in the page, or loaded when first asked for */
  const script = document.currentScript.src;
  const root = new URL("..", script).href;
  let data = null;
  const load = () => data ??= new Promise(done => {
    const tag = document.createElement("script");
    tag.src = new URL("previews-data.js", script).href;
    tag.onload = () => done(window.companionPreviews);
    tag.onerror = () => done({});
    document.head.append(tag);
  });

  article.querySelectorAll("[data-symbol]").forEach(symbol => { symbol.tabIndex = 0; });
  const TRIGGERS = "a.reference.internal, [data-symbol]";
  const box = Object.assign(document.createElement("div"), { className: "preview", id: "preview", hidden: true });
  box.setAttribute("role", "tooltip");
  document.body.append(box);
  let owner = null;
  let timer = null;

  /* A clone of what is on this page, without what is unique or leads away */
  function cloned(target) {
    const made = target.closest("figure, .math")?.cloneNode(true);
    if (!made) return null;
    made.querySelectorAll(".headerlink, .eqno, .figure-links, details, script, mjx-assistive-mml").forEach(e => e.remove());
    made.querySelectorAll("[id]").forEach(e => e.removeAttribute("id"));
    made.querySelectorAll("[tabindex]").forEach(e => e.removeAttribute("tabindex"));
    made.querySelectorAll(".figure-open").forEach(link => link.replaceWith(...link.childNodes));
    made.removeAttribute("id");
    return made;
  }

  async function content(trigger) {
    if (trigger.dataset.symbol) return (await load())[`symbol ${trigger.dataset.symbol}`];
    if (trigger.dataset.reference) return escaped(trigger.dataset.reference);
    const url = new URL(trigger.href, location.href);
    if (url.pathname === location.pathname && url.hash) {
      const target = document.getElementById(decodeURIComponent(url.hash.slice(1)));
      return target && cloned(target);
    }
    return (await load())[decodeURI(url.href.slice(root.length))];
  }
  const escaped = text => { const e = document.createElement("p"); e.textContent = text; return e; };

  async function open(trigger) {
    if (owner === trigger) return;
    close();
    owner = trigger;
    const shown = await content(trigger);
    if (!shown || owner !== trigger) { if (owner === trigger) owner = null; return; }
    box.replaceChildren();
    typeof shown === "string" ? box.innerHTML = shown : box.append(shown);
    box.hidden = false;
    trigger.setAttribute("aria-describedby", "preview");
    if (typeof shown === "string" && shown.includes("\\") && window.MathJax?.typesetPromise) {
      await MathJax.typesetPromise([box]).catch(() => {});
      box.querySelectorAll("[tabindex]").forEach(e => e.removeAttribute("tabindex"));
    }
    if (owner === trigger) place(trigger);
  }

  function place(trigger) {
    const at = trigger.getClientRects()[0];
    if (!at) return close();
    const room = document.documentElement.clientWidth;
    box.style.left = "0";
    const { width, height } = box.getBoundingClientRect();
    const left = Math.max(8, Math.min(at.left + at.width / 2 - width / 2, room - width - 8));
    const above = at.top > height + 12;
    box.style.left = `${left + scrollX}px`;
    box.style.top = `${(above ? at.top - height - 6 : at.bottom + 6) + scrollY}px`;
  }

  function close() {
    clearTimeout(timer);
    owner?.removeAttribute("aria-describedby");
    owner = null;
    box.hidden = true;
  }
  const later = (act, wait) => { clearTimeout(timer); timer = setTimeout(act, wait); };
  const trigger = event => event.target.closest?.(TRIGGERS);

  article.querySelectorAll("a.reference.internal[title]").forEach(link => {
    link.dataset.reference = link.title; // else the browser shows it a second time
    link.removeAttribute("title");
  });
  article.addEventListener("pointerover", event => {
    const found = event.pointerType === "mouse" && trigger(event);
    if (found) later(() => open(found), 220);
  });
  article.addEventListener("pointerout", event => {
    if (event.pointerType === "mouse" && trigger(event)) later(close, 250);
  });
  box.addEventListener("pointerenter", () => clearTimeout(timer));
  box.addEventListener("pointerleave", () => later(close, 250));
  let touched = false;
  addEventListener("pointerdown", event => {
    touched = event.pointerType !== "mouse";
    if (!event.target.closest?.(".preview") && trigger(event) !== owner) close();
  }, true);
  article.addEventListener("focusin", event => {
    const found = trigger(event);
    if (found && !touched) open(found);
  });
  article.addEventListener("focusout", event => { if (trigger(event) && !touched) later(close, 150); });
  // A finger cannot hover: a first tap shows, a second follows
  article.addEventListener("click", event => {
    const found = touched && trigger(event);
    if (!found || owner === found) return;
    if (found.matches("[data-symbol], .term, .bibtex-citation a, a[href*='#equation']")) {
      event.preventDefault();
      open(found);
    }
  });
  addEventListener("keydown", event => { if (event.key === "Escape") close(); });

  /* --- a link to the code of a figure opens the code */
  function unfold() {
    const target = /^#(code|cell)-/.test(location.hash) ? document.getElementById(location.hash.slice(1)) : null;
    const cell = target?.closest("div.cell");
    if (cell && (location.hash.startsWith("#code-") || cell.matches(".silent"))) {
      cell.classList.add("asked");
      cell.querySelector("details")?.setAttribute("open", "");
    }
  }
  addEventListener("hashchange", unfold);
  unfold();

  /* --- how much code is shown, in all chapters: see bars.py */
  const buttons = article.querySelectorAll(".code-switch button");
  const folds = article.querySelectorAll("details.above-input");
  function show(amount) {
    document.documentElement.dataset.code = amount;
    buttons.forEach(button => button.setAttribute("aria-pressed", button.value === amount));
    if (amount === "all") folds.forEach(fold => { fold.open = true; });
  }
  buttons.forEach(button => button.addEventListener("click", () => {
    if (button.value === "main") folds.forEach(fold => { fold.open = false; });
    show(button.value);
    try { localStorage.setItem("code", button.value); } catch { /* a private window: for this page only */ }
  }));
  if (buttons.length && document.documentElement.dataset.code !== "main") show(document.documentElement.dataset.code);

  /* --- equations wider than the page: smaller first, and only then scrolled; each once it is laid out */
  const LEAST = 0.7;
  function fit(boxes) {
    boxes.forEach(box => { box.style.fontSize = ""; });
    // all are measured before one is changed: the page is laid out once
    const sizes = boxes.map(box => {
      const drawn = box.querySelector("mjx-container[display] > mjx-math");
      const number = box.querySelector(".eqno")?.getBoundingClientRect().width ?? 0;
      return drawn ? (box.clientWidth - number - 4) / drawn.getBoundingClientRect().width : 1;
    });
    boxes.forEach((box, k) => { if (sizes[k] < 1) box.style.fontSize = `${Math.max(LEAST, sizes[k]) * 100}%`; });
    // what still scrolls is reached by the keyboard
    const scrolling = boxes.flatMap(box => [...box.querySelectorAll("mjx-container")])
      .map(drawn => [drawn, drawn.scrollWidth > drawn.clientWidth + 1]);
    scrolling.forEach(([drawn, isWide]) => {
      const told = { tabindex: 0, role: "group", "aria-label": "Formula, wider than its line" };
      Object.entries(told).forEach(([name, value]) => isWide ? drawn.setAttribute(name, value) : drawn.removeAttribute(name));
    });
  }
  const shown = new IntersectionObserver(
    seen => fit(seen.filter(s => s.isIntersecting).map(s => s.target)), { rootMargin: "999999px" });
  const fitAll = () => article.querySelectorAll(".math").forEach(box => { shown.unobserve(box); shown.observe(box); });
  addEventListener("load", () => window.MathJax?.startup?.promise.then(fitAll));
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; fitAll(); } });
})();
