/* The search page shows a whole sentence of each hit, and the hit opens where that sentence stands. */
(() => {
  const BLOCKS = "p, li, dd, td, figcaption";
  const ASIDE = ".headerlink, .caption-number, .facts, .feedback, script, style, button";
  const LEAST = 30; // characters: what is shorter is a label
  const ENTRY = 50; // least score of an entry of the index, which names its place itself: queries.py
  const WORD = /[\p{Letter}\p{Number}_]+/gu;
  const stemmer = new Stemmer(), stems = new Map();
  stopwords.push("an", "do", "does", "has", "have", "how", "what", "which", "who", "why"); // of questions

  function meets(word, keywords) {
    const small = word.toLowerCase();
    if (!stems.has(small)) stems.set(small, stemmer.stemWord(small));
    return keywords.filter(k => stems.get(small) === k || (k.length > 3 && small.includes(k)));
  }

  /* How many of the keywords, which are stems, a text holds. */
  const count = (text, keywords) => new Set((text.match(WORD) ?? []).flatMap(w => meets(w, keywords))).size;
  const most = found => found.reduce((a, b) => (b.held > (a?.held ?? -1) ? b : a), null);

  /* Sentences of a block that can be read alone: without a formula, which is not typeset on this page. */
  const sentences = block => block.textContent.replace(/\s+/g, " ").trim()
    .split(/(?<=[.?!][)”]?)(?<!(?:^|[ (])(?:[A-Z]|Figs?|al|vs)\.) (?=[“(]?[A-Z0-9])/)
    .filter(s => s.length >= LEAST && /^[A-Z0-9].*\.$/.test(s) && !/[\uFFFC\\]/.test(s));

  /* The sentence with the most keywords, the first of equals, and its block. */
  function best(blocks, keywords) {
    const read = [...blocks].filter(b => !b.querySelector(`${BLOCKS}, pre`) && !b.closest(".citation"));
    return most(read.flatMap(block => sentences(block).map(text => ({ text, block, held: count(text, keywords) }))));
  }

  /* What a name stands for: the definition of a term, or the section that begins with it. */
  const named = at => at.matches("dt") ? at.nextElementSibling : at.querySelector(BLOCKS) ? at : at.closest("section");

  /* The innermost named place that holds as many keywords as any: for words that only code or a formula holds. */
  const innermost = (article, keywords) => [...article.querySelectorAll("[id]")]
    .map(element => ({ element, held: count(element.textContent, keywords) }))
    .reduce((a, b) => (!a || b.held > a.held || (b.held === a.held && a.element.contains(b.element)) ? b : a), null);

  /* A sentence with its keywords marked. */
  function marked(text, keywords) {
    const parts = [];
    let end = 0;
    for (const { 0: word, index } of text.matchAll(WORD)) {
      if (!meets(word, keywords).length) continue;
      parts.push(text.slice(end, index), Object.assign(document.createElement("span"), { className: "highlighted", textContent: word }));
      end = index + word.length;
    }
    return [...parts, text.slice(end)];
  }

  function fill(summary, page, keywords, anchor) {
    const link = summary.parentElement.querySelector("a");
    const article = new DOMParser().parseFromString(page, "text/html").querySelector("article");
    article.querySelectorAll(ASIDE).forEach(e => e.remove());
    const place = innermost(article, keywords), heading = article.querySelector("h1");
    article.querySelectorAll(".math").forEach(e => e.replaceWith("\uFFFC"));
    const at = anchor && article.querySelector(`#${CSS.escape(anchor.slice(1))}`);
    if (at || count(heading.textContent, keywords) === keywords.length || link.dataset.score >= ENTRY) {
      const blocks = at ? [named(at), ...named(at).querySelectorAll(BLOCKS)] : heading.parentElement.querySelectorAll(":scope > p");
      const found = best(blocks, keywords);
      if (found) summary.append(...marked(found.text, keywords));
      return;
    }
    const found = best(article.querySelectorAll(BLOCKS), keywords);
    if (!found?.held) { // only code or mathematics holds them
      link.href = `${link.getAttribute("href")}#${place.element.id}`;
      return;
    }
    summary.append(...marked(found.text, keywords));
    // what follows :~: marks the sentence where a browser knows it; the name before it works in all
    const text = encodeURIComponent(found.text).replaceAll("-", "%2D");
    link.href = `${link.getAttribute("href")}#${found.block.closest("[id]").id}:~:text=${text}`;
  }

  Search.makeSearchSummary = (page, keywords, anchor) => {
    const summary = Object.assign(document.createElement("p"), { className: "context" });
    queueMicrotask(() => fill(summary, page, [...keywords], anchor)); // when it stands under its link
    return summary;
  };
})();
