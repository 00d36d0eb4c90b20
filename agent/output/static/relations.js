"use strict";
(() => {
  const tools = document.querySelector(".tools");
  const find = document.getElementById("find");
  const category = document.getElementById("category");
  const found = document.getElementById("found");
  const operations = [...document.querySelectorAll(".operation")];
  const tau = parseFloat(found.dataset.tau);
  tools.hidden = false;

  const fits = (one, words) => {
    const text = one.dataset.text.toLowerCase();
    const heads = text.split(" ");
    return words.every(w => (/^\d+\.\d+$/.test(w) ? heads.includes(w) : text.includes(w)))
      && (!found.checked || parseFloat(one.dataset.score) >= tau)
      && (!category.value || one.parentElement.dataset.category === category.value);
  };

  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const one of operations) {
      one.hidden = !fits(one, words);
      shown += !one.hidden;
    }
    for (const group of document.querySelectorAll(".group")) {
      group.hidden = !group.querySelector(".operation:not([hidden])");
    }
    document.getElementById("count").textContent = `${shown} of ${operations.length}`;
    document.getElementById("none").hidden = shown > 0;
  };
  for (const [what, when] of [[find, "input"], [category, "change"], [found, "change"]]) what.addEventListener(when, filter);
  filter();

  const readOut = event => {
    const svg = event.target.closest && event.target.closest("svg[data-scores]");
    if (!svg) return;
    const box = svg.querySelector(".ground").getBoundingClientRect();
    const layers = +svg.dataset.layers, heads = +svg.dataset.heads;
    const head = Math.floor((event.clientX - box.left) / box.width * heads);
    const layer = layers - 1 - Math.floor((event.clientY - box.top) / box.height * layers);
    if (head < 0 || head >= heads || layer < 0 || layer >= layers) return;
    const score = atob(svg.dataset.scores).charCodeAt(layer * heads + head) / 255;
    const line = svg.closest(".inside").querySelector(".readout");
    const side = svg.closest("figure").querySelector("figcaption").textContent.split(":")[0];
    line.textContent = `head ${layer}.${head} ${side} ${score.toFixed(2)}`;
  };
  document.addEventListener("pointermove", readOut);
  document.addEventListener("pointerdown", readOut);
})();
