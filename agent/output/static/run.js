"use strict";
(() => {
  // Texts of models and tokens only ever go through textContent or dataset: nothing here builds markup from data.
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const STEP = 60;
  const FACES = {
    category: { algorithmic: ["A", "algorithmic"], knowledge: ["K", "knowledge"], linguistic: ["L", "linguistic"], translation: ["T", "translation"], "word fields": ["W", "fields"], other: ["O", "other"] },
    verdict: { supported: ["S", "supported"], weak: ["w", "weak"], contradicted: ["C", "contradicted"], "not testable": ["–", "other"] },
    status: { ok: ["N", "named"] },
  };
  const WORDS = { ok: "named", unclear: "unclear", failed: "failed" };
  const heads = data.heads;
  const byKey = new Map(heads.map((head) => [`${head.layer}.${head.head}`, head]));
  const named = (head) => head.status === "ok";

  const face = (head, metric) => {
    if (!head) return [" ", "none", "no result"];
    if (head.status === "failed") return ["!", "failed", "failed"];
    if (!named(head)) return ["·", "none", "unclear"];
    const value = metric === "status" ? "ok" : metric === "verdict" ? head.verdict : head.category;
    const known = FACES[metric][value] || ["O", "other"];
    return [known[0], known[1], metric === "status" ? "named" : value || "other"];
  };

  // --- the map -------------------------------------------------------------------------------------------
  const grid = $("grid");
  let focus = null;
  const cells = new Map();
  const drawGrid = () => {
    if (data.n_heads > 20) grid.classList.add("many");
    if (data.n_heads > 48) grid.classList.add("most");
    const layers = [...new Set(heads.map((head) => head.layer))].sort((a, b) => b - a);
    for (const layer of layers) {
      const row = make("div", "map-row");
      row.setAttribute("role", "row");
      const number = make("div", "number", layer);
      number.setAttribute("role", "rowheader");
      row.append(number);
      const states = { ok: 0, unclear: 0, failed: 0 };
      for (let h = 0; h < data.n_heads; h += 1) {
        const head = byKey.get(`${layer}.${h}`);
        const cell = make("button", "cell");
        cell.type = "button";
        cell.tabIndex = -1;
        cell.setAttribute("role", "gridcell");
        cell.dataset.key = `${layer}.${h}`;
        cell.disabled = !head;
        if (head) states[head.status] += 1;
        cells.set(cell.dataset.key, cell);
        row.append(cell);
      }
      const share = make("div", "dim", `${states.ok} of ${states.ok + states.unclear + states.failed}`);
      share.setAttribute("role", "gridcell");
      row.append(coverage(states), share);
      grid.append(row);
    }
    focus = grid.querySelector(".cell:enabled"); // a disabled one cannot be reached by Tab
    if (focus) focus.tabIndex = 0;
  };
  const coverage = (states) => {
    const total = states.ok + states.unclear + states.failed;
    const strip = make("div", "cov");
    strip.setAttribute("role", "gridcell");
    strip.setAttribute("aria-label", `${states.ok} named, ${states.unclear} unclear, ${states.failed} failed`);
    strip.title = strip.getAttribute("aria-label");
    for (const name of ["ok", "failed"]) {
      const part = make("i", name);
      part.style.width = `${(100 * states[name]) / Math.max(1, total)}%`;
      strip.append(part);
    }
    return strip;
  };
  const paint = () => {
    const metric = $("colour").value;
    const legend = new Map();
    for (const [key, cell] of cells) {
      const head = byKey.get(key);
      const [letter, look, words] = face(head, metric);
      cell.className = `cell f-${look}`;
      cell.textContent = letter;
      const what = head && named(head) ? `${head.operation}, ${words}` : words;
      cell.title = `${key}: ${what}`;
      cell.setAttribute("aria-label", `head ${key}: ${what}`);
      legend.set(words, [letter, look, (legend.get(words)?.[2] || 0) + 1]);
    }
    const rows = [...legend].sort((a, b) => b[1][2] - a[1][2]).map(([words, [letter, look, n]]) => {
      const item = make("li");
      item.append(make("span", `swatch f-${look}`, letter), make("span", "", `${words} `), make("span", "num", n));
      return item;
    });
    $("legend").replaceChildren(...rows);
  };
  // Left and right run on over the ends of rows: in a run of few heads no head is then out of reach.
  const moves = { ArrowLeft: [false, -1], ArrowRight: [false, 1], ArrowUp: [true, -1], ArrowDown: [true, 1] };
  const column = (cell) => cell.dataset.key.split(".")[1];
  grid.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (!move || !event.target.classList.contains("cell")) return;
    const [upright, step] = move;
    const line = [...cells.values()].filter((cell) => !cell.disabled && (!upright || column(cell) === column(event.target)));
    const next = line[line.indexOf(event.target) + step];
    if (!next) return;
    event.preventDefault();
    focus.tabIndex = -1;
    focus = next;
    focus.tabIndex = 0;
    focus.focus();
  });
  grid.addEventListener("click", (event) => {
    const key = event.target.dataset?.key;
    if (byKey.has(key)) open(key);
  });

  // --- operations ----------------------------------------------------------------------------------------
  const drawOperations = () => {
    const counts = new Map();
    for (const head of heads.filter(named)) counts.set(head.operation, [(counts.get(head.operation)?.[0] || 0) + 1, head]);
    const sorted = [...counts].sort((a, b) => b[1][0] - a[1][0]);
    const items = sorted.slice(0, 24).map(([operation, [n, head]]) => {
      const item = make("li");
      const button = make("button", "bare");
      button.type = "button";
      const meter = make("span", `share-line f-${face(head, "category")[1]}`);
      meter.style.width = `${(100 * n) / sorted[0][1][0]}%`;
      button.append(make("span", "", operation), make("span", "num", n), meter);
      button.addEventListener("click", () => showOperation(operation));
      item.append(button);
      return item;
    });
    $("operations").replaceChildren(...(items.length ? items : [make("li", "dim", "No head is named.")]));
  };

  // --- the list ------------------------------------------------------------------------------------------
  const searchable = (head) => (head.text ??= [head.operation, head.inputs, head.pattern, head.reason, ...head.operations.map((one) => one[1]), `${head.layer}.${head.head}`, ...head.rows.flatMap((row) => [row[0], ...row[2]])].join("\n").toLowerCase());
  let found = heads;
  let timer = 0;
  let shown = 0;
  let only = null; // the operation chosen above
  const setOperation = (operation) => {
    only = operation;
    $("operation").hidden = only === null;
    $("operation-name").textContent = only ?? "";
    filter();
  };
  const showOperation = (operation) => {
    for (const id of ["query", "status", "category", "verdict"]) $(id).value = "";
    clearTimeout(timer); // a search still waiting is reset too
    setOperation(operation);
    $("heads").scrollIntoView();
  };
  const filter = () => {
    const words = $("query").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const [status, category, verdict] = ["status", "category", "verdict"].map((id) => $(id).value);
    found = heads.filter((head) =>
      (!status || head.status === status) && (!category || head.category === category) && (!verdict || (named(head) && head.verdict === verdict)) &&
      (only === null || (named(head) && head.operation === only)) &&
      words.every((word) => searchable(head).includes(word)));
    const keys = new Set(found.map((head) => `${head.layer}.${head.head}`));
    for (const [key, cell] of cells) cell.classList.toggle("out", !keys.has(key));
    $("found").textContent = `${found.length} of ${heads.length} heads`;
    shown = 0;
    $("list").replaceChildren();
    more();
  };
  const more = () => {
    $("list").append(...found.slice(shown, shown + STEP).map(line));
    shown = Math.min(found.length, shown + STEP);
    $("more").hidden = shown >= found.length;
    $("more").textContent = `Show more (${found.length - shown} left)`;
  };
  const line = (head) => {
    const item = make("li");
    const button = make("button", "head bare");
    button.type = "button";
    button.dataset.key = `${head.layer}.${head.head}`;
    const title = make("span", "op", named(head) ? head.operation : WORDS[head.status]);
    if (named(head)) title.append(make("span", `chip f-${face(head, "verdict")[1]}`, head.verdict));
    const tokens = head.rows.slice(0, 6).map((row) => `${row[0]}→${row[2][0] ?? ""}`).join("  ");
    button.append(make("span", "id", button.dataset.key), title, make("span", "tokens", tokens));
    button.addEventListener("click", () => open(button.dataset.key));
    item.append(button);
    return item;
  };

  // --- one head ------------------------------------------------------------------------------------------
  const fact = (list, name, text) => {
    if (text) list.append(make("dt", "", name), make("dd", "", text));
  };
  const sourceCell = (token) => {
    const cell = make("td", "source");
    cell.append(make("bdi", "tok", token));
    return cell;
  };
  const targetsCell = (targets) => {
    const list = make("ul", "targets");
    list.append(...targets.map((target) => {
      const item = make("li");
      item.append(make("bdi", "tok", target));
      return item;
    }));
    const cell = make("td");
    cell.append(list);
    return cell;
  };
  // `rows` are lists of cells.
  const table = (title, names, rows) => {
    const box = document.createDocumentFragment();
    box.append(make("h3", "", title));
    const whole = make("table");
    const top = make("tr");
    for (const name of names) {
      const cell = make("th", "", name);
      cell.scope = "col";
      top.append(cell);
    }
    whole.append(top);
    for (const cells of rows) {
      const row = make("tr");
      row.append(...cells);
      whole.append(row);
    }
    box.append(whole);
    return box;
  };
  const salientTable = (title, rows) => table(
    title, ["salience", "token", "targets, strongest first"],
    rows.map(([token, salience, targets]) => [make("td", "num", salience.toFixed(2)), sourceCell(token), targetsCell(targets)]),
  );
  const suppressedTable = (rows) => table(
    "What it suppresses", ["token", "most suppressed"], rows.map(([token, , targets]) => [sourceCell(token), targetsCell(targets)]),
  );
  const testedTable = ([k, rows]) => table(
    `Some of the new words that it was tested on, read as the test reads (holds: among the ${k} strongest)`, ["holds", "token", "said", "targets, strongest first"],
    rows.map(([token, hit, wanted, targets]) => [make("td", "", hit ? "yes" : "no"), sourceCell(token), make("td", "", wanted), targetsCell(targets)]),
  );
  const operationsTable = (found) => table(
    "All operations that its tests support", ["part", "operation", "score", "without"],
    found.map(([part, name, score, without]) => [
      make("td", "num", part), make("td", "", name), make("td", "num", score?.toFixed(2) ?? ""), make("td", "num", without?.toFixed(2) ?? ""),
    ]),
  );
  const partsTable = (parts) => table(
    "Its parts: words for which it writes alike, beside what it always writes", ["part", "share", "words", "what they have in common, strongest first"],
    parts.map(([share, words, targets], i) => [make("td", "num", i + 1), make("td", "num", share), make("td", "", words), make("td", "", targets)]),
  );
  const page = (head) => {
    const body = document.createDocumentFragment();
    const top = make("div", "head-line");
    const title = make("h2", "", `Head ${head.layer}.${head.head}: ${named(head) ? head.operation : WORDS[head.status]}`);
    title.id = "page-title";
    const close = make("button", "", "Close");
    close.type = "button";
    close.addEventListener("click", () => $("page").close());
    top.append(title, close);
    body.append(top);
    const facts = make("dl", "facts");
    fact(facts, "inputs", head.inputs);
    fact(facts, "pattern", named(head) ? head.pattern : "");
    fact(facts, "evidence", head.reasoning);
    fact(facts, "reason", head.reason);
    fact(facts, "test", named(head) ? [head.verdict, head.test].filter(Boolean).join(": ") : "");
    fact(facts, "category", head.category);
    fact(facts, "confidence", named(head) ? head.confidence.toFixed(2) : "");
    fact(facts, "source", head.source);
    fact(facts, "alike", head.retrieved.map(([name, alike]) => `${name} ${alike.toFixed(2)}`).join(", "));
    fact(facts, "attends", head.attends);
    fact(facts, "whatever it reads", head.constant);
    body.append(facts);
    if (head.operations.some((one) => one[1] !== head.operation)) body.append(operationsTable(head.operations));
    if (head.tested) body.append(testedTable(head.tested));
    if (head.parts.length) body.append(partsTable(head.parts));
    body.append(salientTable("Most salient tokens and what they are mapped to", head.rows));
    if (head.same_tokens) body.append(salientTable(`The same tokens under the reading that the test uses: ${head.same_tokens[0]}`, head.same_tokens[1]));
    if (head.suppressed.length) body.append(suppressedTable(head.suppressed));
    const faint = new Set(head.undertrained);
    for (const one of body.querySelectorAll(".tok")) {
      if (!faint.has(one.textContent)) continue;
      one.classList.add("dim");
      one.title = "undertrained: no evidence";
    }
    return body;
  };
  const open = (key) => {
    const dialog = $("page");
    $("page-body").replaceChildren(page(byKey.get(key)));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    history.replaceState(null, "", `#${key}`);
  };
  $("page").addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
  $("page").addEventListener("click", (event) => { if (event.target === $("page")) $("page").close(); });

  // --- start ---------------------------------------------------------------------------------------------
  drawGrid();
  paint();
  drawOperations();
  filter();
  $("colour").addEventListener("change", () => { paint(); filter(); });
  for (const id of ["status", "category", "verdict"]) $(id).addEventListener("change", filter);
  $("every-operation").addEventListener("click", () => { setOperation(null); $("query").focus(); });
  $("query").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(filter, 120); });
  $("more").addEventListener("click", more);
  const follow = () => {
    const key = location.hash.slice(1);
    if (byKey.has(key)) open(key);
    else if ($("page").open) $("page").close();
  };
  addEventListener("hashchange", follow);
  follow();
})();
