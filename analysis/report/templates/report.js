"use strict";
// The table is ours: sorted, filtered, shown page by page. The figures are plotly's; brushing one filters the table.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { columns, rows, links, has, files, tracked } = data.table;
  const at = (id) => document.getElementById(id);
  const PAGE = 50; // rows
  const PAPER = 680, LOW = 320; // pixels, of a figure that is printed: A4 and Letter, less their margins

  // Theme: the reader's system decides until the button is pressed; figures follow by their template.
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const drawn = () => [...document.querySelectorAll(".figure.drawn")];
  const themed = () => {
    at("theme").textContent = theme() === "dark" ? "Light" : "Dark";
    for (const one of drawn()) Plotly.relayout(one, { template: data.templates[theme()] });
  };
  try {
    const kept = localStorage.getItem("mergenet-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch { /* a file without storage */ }
  at("theme").addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    try { localStorage.setItem("mergenet-theme", root.dataset.theme); } catch { /* as above */ }
    themed();
  });
  dark.addEventListener("change", themed);

  // Figures are drawn when they come into view, and all of them before the page is printed, in light colours.
  const config = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "resetScale2d"]] };
  const draw = (one) => {
    if (one.classList.contains("drawn")) return;
    one.classList.add("drawn");
    const { data: traces, layout } = data.figures[one.dataset.figure];
    const dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom"; // a finger scrolls the page
    const parallel = one.dataset.figure === "parallel";
    Plotly.newPlot(one, parallel ? traces.map(thinned) : traces, { ...layout, dragmode, template: data.templates[theme()] }, config);
    if (parallel) one.on("plotly_restyle", () => brush(one));
    else one.on("plotly_click", (event) => find(event.points[0]));
  };
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "300px" });
  document.querySelectorAll(".figure").forEach((one) => seen.observe(one));
  addEventListener("beforeprint", () => {
    document.querySelectorAll(".figure").forEach(draw);
    for (const one of drawn()) {
      const height = data.figures[one.dataset.figure].layout.height || LOW;
      Plotly.relayout(one, { template: data.templates.light, autosize: false, width: PAPER, height });
    }
  });
  addEventListener("afterprint", () => {
    for (const one of drawn()) {
      const height = data.figures[one.dataset.figure].layout.height || null;
      Plotly.relayout(one, { template: data.templates[theme()], autosize: true, width: null, height });
    }
  });

  // What is shown of the table
  const name = columns.findIndex((column) => column.name === "trial");
  const known = new Set(rows.map((row) => row[name]));
  let kept = rows.map((_, i) => i), page = 0, sorted = null, down = false, brushed = null;

  const text = (value, kind) => {
    if (value === null) return "-";
    if (typeof value !== "number") return String(value);
    if (kind === "percent") return (100 * value).toFixed(2);
    return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
  };

  // The words of the filter: each a test of a row
  const tests = (words) => words.split(/\s+/).filter(Boolean).map((word) => {
    const [, left, sign, right] = word.match(/^(.+?)(<=|>=|=|<|>)(.+)$/) || [];
    const short = (left || "").toLowerCase();
    const fits = (column) => [column.name, column.title].some((one) => [one.toLowerCase(), one.replace(" %", "").toLowerCase()].includes(short));
    const place = columns.findIndex(fits) >= 0 ? columns.findIndex(fits) : columns.findIndex((one) => short && one.name.toLowerCase().endsWith("." + short));
    if (place < 0) {
      const part = word.toLowerCase();
      return (row) => row.some((value, i) => value !== null && text(value, columns[i].kind).toLowerCase().includes(part));
    }
    const kind = columns[place].kind, number = Number(right);
    return (row) => {
      const value = row[place];
      if (value === null) return false;
      if (typeof value !== "number" || Number.isNaN(number)) return sign === "=" && String(value).toLowerCase() === right.toLowerCase();
      const shown = kind === "percent" ? 100 * value : value;
      if (sign === "=") return text(value, kind) === text(kind === "percent" ? number / 100 : number, kind);
      return { "<": shown < number, "<=": shown <= number, ">": shown > number, ">=": shown >= number }[sign];
    };
  });

  const before = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const numbers = typeof a === "number" && typeof b === "number";
    const order = numbers ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
    return down ? -order : order;
  };

  const choose = () => {
    const all = tests(at("filter").value);
    kept = rows.map((_, i) => i).filter((i) => (!brushed || brushed.has(rows[i][name])) && all.every((test) => test(rows[i])));
    if (sorted !== null) kept.sort((i, j) => before(rows[i][sorted], rows[j][sorted]) || i - j);
    page = 0;
    show();
  };

  const make = (tag, words, kind) => {
    const one = document.createElement(tag);
    if (words !== undefined) one.textContent = words;
    if (kind) one.className = kind;
    return one;
  };
  const anchor = (words, href) => {
    const one = make("a", words);
    one.href = href;
    return one;
  };

  const line = (i) => {
    const row = make("tr");
    columns.forEach((column, place) => {
      const value = text(rows[i][place], column.kind);
      const cell = make("td", undefined, column.kind === "text" ? (value.length > 40 ? "long" : "") : "number");
      if (place === name && links[i]) cell.append(anchor(value, links[i] + "/"));
      else cell.textContent = value;
      if (value.length > 40) cell.title = value;
      row.append(cell);
    });
    const cell = make("td");
    if (links[i]) has[i].forEach((file) => cell.append(anchor(files[file].split(".")[0], links[i] + "/" + files[file]), " "));
    if (/^https?:/.test(tracked[i])) cell.append(anchor("W&B", tracked[i]));
    row.append(cell);
    return row;
  };

  const show = () => {
    const pages = Math.max(1, Math.ceil(kept.length / PAGE));
    at("table").tBodies[0].replaceChildren(...kept.slice(page * PAGE, (page + 1) * PAGE).map(line));
    const why = [brushed ? "brushed" : "", at("filter").value.trim() ? "filtered" : ""].filter(Boolean).join(", ");
    at("count").textContent = `${kept.length} of ${rows.length} runs${why ? ` (${why})` : ""}`;
    at("page").textContent = `page ${page + 1} of ${pages}`;
    at("previous").disabled = page === 0;
    at("following").disabled = page >= pages - 1;
  };

  const titles = make("tr");
  columns.forEach((column, place) => {
    const cell = make("th", undefined, column.kind === "text" ? "" : "number");
    const button = make("button", column.title);
    button.type = "button";
    cell.scope = "col";
    cell.title = column.name;
    button.addEventListener("click", () => {
      down = sorted === place ? !down : column.kind === "percent"; // the best first
      sorted = place;
      titles.querySelectorAll("th").forEach((one) => one.removeAttribute("aria-sort"));
      cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      choose();
    });
    cell.append(button);
    titles.append(cell);
  });
  titles.append(make("th", "files"));
  at("table").tHead.append(titles);

  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("filter").addEventListener("input", choose);
  at("previous").addEventListener("click", () => { page -= 1; show(); });
  at("following").addEventListener("click", () => { page += 1; show(); });
  at("clear").addEventListener("click", () => {
    at("filter").value = "";
    const parallel = document.querySelector(".figure.drawn[data-figure=parallel]");
    if (parallel && brushed) {
      const none = parallel.data[0].dimensions.map((_, i) => [`dimensions[${i}].constraintrange`, null]);
      Plotly.restyle(parallel, Object.fromEntries(none));
    }
    brushed = null;
    choose();
  });

  // Of many trials some are drawn, those that `meta.drawn` numbers, for a browser without a GPU takes a second to draw 5,000 lines
  const thinned = (trace) => {
    const some = trace.meta && trace.meta.drawn;
    const of = (values) => some ? some.map((i) => values[i]) : values;
    const dimensions = trace.dimensions.map((one) => ({ ...one, values: of(one.values) }));
    return { ...trace, ids: of(trace.ids), line: { ...trace.line, color: of(trace.line.color) }, dimensions };
  };

  // A trial, drawn or not, is kept if it lies in a brushed part of every axis that has one
  const brush = (one) => {
    const trace = data.figures.parallel.data[0];
    const brushes = one.data[0].dimensions.filter((axis) => axis.constraintrange).map(({ label, constraintrange: range }) => ({
      values: trace.dimensions.find((axis) => axis.label === label).values, // a reader may have moved the axes
      parts: Array.isArray(range[0]) ? range : [range],
    }));
    const inside = (i) => brushes.every(({ values, parts }) => parts.some(([low, high]) => low <= values[i] && values[i] <= high));
    brushed = brushes.length ? new Set(trace.ids.filter((_, i) => inside(i))) : null;
    choose();
  };

  // A click on a trial's mark shows its row, which links to its files
  const find = (point) => {
    if (!known.has(point.text)) return;
    at("filter").value = `trial=${point.text}`;
    choose();
    at("filters").scrollIntoView();
    at("filter").focus({ preventScroll: true });
  };

  themed();
  choose();
})();
