"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  root.classList.add("js");

  // Colour theme: light, dark, or the setting of the system.
  const button = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  const stored = () => { try { return localStorage.getItem("inferometer-theme"); } catch { return null; } };
  const setTheme = (theme) => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" }[theme];
    button.dataset.now = theme;
    try { localStorage.setItem("inferometer-theme", theme); } catch { /* some browsers store nothing for files */ }
  };
  setTheme(themes.includes(stored()) ? stored() : "auto");
  button.addEventListener("click", () => setTheme(themes[(themes.indexOf(button.dataset.now) + 1) % 3]));

  // Selections of which one picture is shown: the timeline of a request, the curves of a trial.
  for (const select of all("select[data-choices]")) {
    const choose = () => {
      for (const choice of all("#" + select.dataset.choices + " > .choice"))
        choice.classList.toggle("chosen", choice.dataset.choice === select.value);
    };
    select.addEventListener("change", choose);
    choose();
  }

  // The table of requests: each request is a tbody of two rows, numbers and texts.
  const table = document.getElementById("requests-table");
  if (table) {
    const bodies = all("tbody", table);
    const text = document.getElementById("filter-text");
    const kind = document.getElementById("filter-kind");
    const count = document.getElementById("filter-count");
    const filter = () => {
      const words = text.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const body of bodies) {
        const content = body.textContent.toLowerCase();
        const isIn = words.every((word) => content.includes(word)) &&
          (kind.value === "all" || body.dataset.kind.split(" ").includes(kind.value));
        body.hidden = !isIn;
        shown += isIn;
      }
      count.textContent = `${shown} of ${bodies.length} requests`;
    };
    text.addEventListener("input", filter);
    kind.addEventListener("change", filter);
    filter();

    const toggle = (body, open) => {
      const opener = body.querySelector(".open-it");
      if (!opener) return;
      body.classList.toggle("open", open);
      opener.setAttribute("aria-expanded", String(open));
    };
    for (const body of bodies) {
      const opener = body.querySelector(".open-it");
      if (opener) {
        opener.setAttribute("aria-expanded", "false");
        opener.addEventListener("click", () => toggle(body, !body.classList.contains("open")));
      }
    }

    for (const head of all("th[aria-sort]", table)) {
      head.querySelector("button").addEventListener("click", () => {
        const rising = head.getAttribute("aria-sort") !== "ascending";
        for (const other of all("th[aria-sort]", table)) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        const column = Number(head.dataset.column);
        const value = (body) => body.rows[0].cells[column].dataset.v ?? body.rows[0].cells[column].textContent.trim();
        const order = (one, other) => {
          const [a, b] = [value(one), value(other)];
          if (a === "" || b === "") return (a === "") - (b === "");  // unknown values come last in both directions
          const found = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
          return rising ? found : -found;
        };
        bodies.sort(order);
        table.append(...bodies);
      });
    }
  }

  // Copies to the clipboard; where the browser does not allow that, selects a text field for the keyboard.
  const copyText = async (text, button) => {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const field = document.createElement("textarea");
      field.value = text;
      document.body.append(field);
      field.select();
      done = document.execCommand("copy");
      field.remove();
    }
    const before = button.dataset.label ?? (button.dataset.label = button.textContent);
    button.textContent = done ? "Copied" : "Not copied";
    setTimeout(() => { button.textContent = before; }, 4000);
  };
  for (const copy of all("button.copy"))
    copy.addEventListener("click", () => copyText(document.getElementById(copy.dataset.copies).textContent, copy));

  // Links to the sections.
  const slug = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60);
  for (const head of all("section[id] > h2, section[id] h3")) {
    if (head.tagName === "H3" && !head.id) {
      const name = head.closest("section").id + "-" + slug(head.textContent);
      head.id = document.getElementById(name) ? `${name}-${all("h3").indexOf(head)}` : name;
    }
    const link = document.createElement("a");
    link.className = "anchor";
    link.href = "#" + (head.id || head.parentElement.id);
    link.textContent = "#";
    link.setAttribute("aria-label", "Link to: " + head.textContent.trim());
    head.append(link);
  }
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();

  // Buttons of tables and pictures.
  const tools = (before) => {
    const bar = document.createElement("div");
    bar.className = "tools";
    before.before(bar);
    return (label, words, act) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.title = words;
      button.setAttribute("aria-label", words);
      button.addEventListener("click", () => act(button));
      bar.append(button);
    };
  };
  const cellText = (cell) => [...cell.childNodes].map((node) => node.textContent.trim()).filter(Boolean).join(" ");
  const tableRows = (grid) =>
    [...grid.rows].filter((row) => !row.classList.contains("texts") && !row.parentElement.hidden).map((row) =>
      [...row.cells].flatMap((cell) => [cellText(cell), ...Array(cell.colSpan - 1).fill("")]));
  const asMarkdown = (rows) => {
    const lines = rows.map((row) => "| " + row.map((cell) =>
      cell.replace(/[\\|`*_<>[\]]/g, "\\$&").replace(/\s+/g, " ")).join(" | ") + " |");
    const rule = "|" + rows[0].map((_, place) => (place ? " ---: |" : " :--- |")).join("");
    return [lines[0], rule, ...lines.slice(1)].join("\n") + "\n";
  };
  const quoted = (cell) => (/[",\n]/.test(cell) ? `"${cell.replace(/"/g, '""')}"` : cell);
  for (const box of all(".scroll")) {
    const grid = box.querySelector("table");
    tools(box)("Copy as Markdown", "Copy as Markdown", (button) => {
      const rows = tableRows(grid);
      copyText(asMarkdown(grid.tHead?.rows.length > 1 ? rows.slice(1) : rows), button);
    });
  }

  // Files of pictures: the drawing with the colours of the present theme, as SVG or PNG, and its numbers as CSV.
  const save = (name, content) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(content);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const standalone = (svg, title) => {
    const copy = svg.cloneNode(true);
    for (const mark of all(".at", copy)) mark.remove();
    copy.removeAttribute("tabindex");
    copy.setAttribute("class", "picture");
    const style = document.createElementNS(svg.namespaceURI, "style");
    style.textContent = [...document.styleSheets[0].cssRules]
      .filter((rule) => rule.selectorText?.startsWith(".picture ")).map((rule) => rule.cssText).join("\n")
      .replace(/var\((--[\w-]+)\)/g, (_, name) => colour(name));
    const ground = document.createElementNS(svg.namespaceURI, "rect");
    for (const [name, value] of [["width", "100%"], ["height", "100%"], ["fill", colour("--ground")]])
      ground.setAttribute(name, value);
    const words = document.createElementNS(svg.namespaceURI, "title");
    words.textContent = title;
    copy.prepend(words, style, ground);
    return new XMLSerializer().serializeToString(copy);
  };
  const savePng = (svg, title, name) => {
    const image = new Image();
    image.addEventListener("load", () => {
      const canvas = document.createElement("canvas");
      canvas.width = 2 * svg.viewBox.baseVal.width;
      canvas.height = 2 * svg.viewBox.baseVal.height;
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => save(name + ".png", blob), "image/png");
    });
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(standalone(svg, title));
  };

  // Zoom along the axis, of all pictures that one selection shows.
  const views = new WeakMap();  // by figure group: the ends of the axis, in the axis's unit
  const groupOf = (svg) => svg.closest(".choice") ?? svg.parentElement;
  const axisOf = (svg) => {
    const plot = svg.querySelector("svg.plot");
    const [low, high] = [Number(plot.dataset.low), Number(plot.dataset.high)];
    const [left, width] = [plot.x.baseVal.value, plot.width.baseVal.value];
    const [from, to] = views.get(groupOf(svg)) ?? [low, high];
    const factor = (high - low) / (to - from);
    const shift = left - factor * (left + ((from - low) / (high - low)) * width);
    return { plot, low, high, left, width, from, to, factor, shift };
  };
  const wholeTicks = new WeakMap();  // by axis: its ticks before it was zoomed
  const setTicks = (svg, axis) => {
    const ticks = svg.querySelector(".ticks");
    if (!wholeTicks.has(ticks)) wholeTicks.set(ticks, [...ticks.childNodes]);
    ticks.replaceChildren(...wholeTicks.get(ticks));
    if (axis.factor === 1) return;
    const [line, label] = [ticks.querySelector("path"), ticks.querySelector("text")].map((one) => one?.cloneNode(true));
    ticks.replaceChildren();
    if (!line || !label) return;
    const ends = line.getAttribute("d").match(/-?[\d.]+/g).map(Number);
    const raw = (axis.to - axis.from) / 5, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= raw * 0.999);
    for (let i = Math.ceil(axis.from / step); i * step <= axis.to; i++) {
      const x = axis.left + ((i * step - axis.from) / (axis.to - axis.from)) * axis.width;
      const [one, text] = [line.cloneNode(), label.cloneNode()];
      one.setAttribute("d", `M${x} ${ends[1]}L${x} ${ends[3]}`);
      text.setAttribute("x", x);
      text.textContent = String(Number((i * step).toPrecision(8)));
      ticks.append(one, text);
    }
  };
  const zoomTo = (svg, from, to) => {
    const { low, high } = axisOf(svg);
    const least = (high - low) / 500;
    const span = Math.min(high - low, Math.max(least, to - from));
    const middle = span < high - low ? (from + to) / 2 : (low + high) / 2;
    const start = Math.min(Math.max(low, middle - span / 2), high - span);
    const group = groupOf(svg);
    if (span >= high - low) views.delete(group); else views.set(group, [start, start + span]);
    for (const one of all("svg.picture", group)) {
      if (!one.querySelector("svg.plot")) continue;
      const axis = axisOf(one);
      one.querySelector(".zooms").setAttribute("transform", `translate(${axis.shift} 0) scale(${axis.factor} 1)`);
      one.classList.toggle("zoomed", axis.factor !== 1);
      setTicks(one, axis);
    }
  };
  const zoomBy = (svg, factor, centre) => {
    const { from, to } = axisOf(svg);
    const middle = centre ?? (from + to) / 2;
    zoomTo(svg, middle - (middle - from) * factor, middle + (to - middle) * factor);
  };
  const shiftBy = (svg, share) => {
    const { from, to } = axisOf(svg);
    zoomTo(svg, from + share * (to - from), to + share * (to - from));
  };

  // Values of marks, for the pointer and for the keyboard.
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("role", "status");
  document.getElementById("main").append(tip);
  const known = new WeakMap();
  const pointsOf = (path) => {  // where each value of a series stands
    const found = [];
    let [x, y] = [0, 0];
    for (const [, letter, rest] of path.getAttribute("d").matchAll(/([MLHVv])([^MLHVv]*)/g)) {
      const numbers = rest.trim().split(/[\s,]+/).map(Number);
      if (letter === "M" || letter === "L") [x, y] = numbers;
      if (letter === "H") [x] = numbers;
      if (letter === "V") [y] = numbers;
      if ("MLV".includes(letter)) found.push([x, y]);
    }
    return found;
  };
  const marksOf = (svg) => {
    if (known.has(svg)) return known.get(svg);
    const found = [];
    for (const mark of all("[data-tip], [data-values]", svg)) {
      const isZoomed = mark.closest(".zooms") !== null;
      if (mark.dataset.tip) {
        const { x, y, width, height } = mark.getBBox();
        found.push({ mark, x, y, width, height, isZoomed, text: mark.dataset.tip });
        continue;
      }
      const values = mark.dataset.values.split(" ");
      pointsOf(mark).forEach(([x, y], place) => {
        const parts = (values[place] ?? "").split(",");
        const text = mark.dataset.form.replace(/\{(\d)\}/g, (_, i) => parts[i] ?? "");
        found.push({ mark, x, y, width: 0, height: 0, isZoomed, text });
      });
    }
    known.set(svg, found);
    return found;
  };
  const boxOf = (svg, one) => {  // as the picture is zoomed now
    if (!one.isZoomed) return one;
    const { factor, shift } = axisOf(svg);
    return { ...one, x: shift + factor * one.x, width: factor * one.width };
  };
  const isShown = (svg, box) => {
    if (!box.isZoomed) return true;
    const { left, width } = axisOf(svg);
    return box.x + box.width >= left - 0.1 && box.x <= left + width + 0.1;
  };
  const hide = () => {
    tip.textContent = "";
    tip.classList.remove("shown");
    for (const mark of all(".at")) mark.remove();
  };
  const show = (svg, one) => {
    hide();
    const box = boxOf(svg, one);
    const view = svg.viewBox.baseVal;
    const [x, y] = [Math.min(Math.max(box.x + box.width / 2, 0), view.width), box.y + box.height / 2];
    const ring = document.createElementNS(svg.namespaceURI, "circle");
    for (const [name, value] of [["class", "at"], ["cx", x], ["cy", y], ["r", 6]]) ring.setAttribute(name, value);
    svg.append(ring);
    tip.textContent = one.text;
    tip.classList.add("shown");
    const at = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
    const left = Math.min(at.x + 12, document.documentElement.clientWidth - tip.offsetWidth - 6);
    const above = at.y - tip.offsetHeight - 12;
    // The policy forbids style attributes, not styles that the script sets.
    tip.style.left = `${Math.max(6, left)}px`;
    tip.style.top = `${above > 4 ? above : at.y + 14}px`;
  };
  const nearest = (svg, at) => {
    let [best, least] = [null, Infinity];
    for (const one of marksOf(svg)) {
      const box = boxOf(svg, one);
      if (!isShown(svg, box)) continue;
      const away = Math.hypot(Math.max(box.x - at.x, 0, at.x - box.x - box.width),
        Math.max(box.y - at.y, 0, at.y - box.y - box.height)) + Math.min(1, box.width * box.height / 1e5);
      if (away < least) [best, least] = [one, away];
    }
    return least < 30 ? best : null;
  };
  const place = (svg, event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const valueAt = (svg, event) => {
    const axis = axisOf(svg);
    return axis.from + ((place(svg, event).x - axis.left) / axis.width) * (axis.to - axis.from);
  };

  const addZoom = (svg) => {
    let start = null;
    svg.classList.add("can-zoom");
    svg.addEventListener("pointerdown", (event) => { start = event.button ? null : event; });
    svg.addEventListener("pointerup", (event) => {
      if (start && Math.abs(event.clientX - start.clientX) > 8) {
        const [from, to] = [valueAt(svg, start), valueAt(svg, event)].sort((one, other) => one - other);
        zoomTo(svg, from, to);
      }
      start = null;
    });
    svg.addEventListener("dblclick", () => zoomTo(svg, -Infinity, Infinity));
    svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      zoomBy(svg, event.deltaY < 0 ? 0.8 : 1.25, valueAt(svg, event));
    }, { passive: false });
  };
  const zoomKeys = { "+": (svg) => zoomBy(svg, 0.5), "=": (svg) => zoomBy(svg, 0.5), "-": (svg) => zoomBy(svg, 2),
    "0": (svg) => zoomTo(svg, -Infinity, Infinity) };
  const addValues = (svg) => {
    let current = -1;
    svg.setAttribute("tabindex", "0");
    const step = (by) => {
      const marks = marksOf(svg);
      for (let i = 0, at = current; i < marks.length; i++) {
        at = (at + by + marks.length) % marks.length;
        if (!isShown(svg, boxOf(svg, marks[at]))) continue;
        current = at;
        return show(svg, marks[at]);
      }
    };
    svg.addEventListener("pointermove", (event) => {
      const found = nearest(svg, place(svg, event));
      if (found) show(svg, found); else hide();
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("focus", () => { if (svg.matches(":focus-visible")) step(current < 0 ? 1 : 0); });
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const zooms = svg.querySelector("svg.plot") !== null;
      const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (way && event.shiftKey && zooms) shiftBy(svg, way / 4);
      else if (way) step(way);
      else if (event.key === "Home") { current = -1; step(1); }
      else if (event.key === "End") { current = marksOf(svg).length; step(-1); }
      else if (event.key === "Escape") hide();
      else if (zooms && zoomKeys[event.key]) { zoomKeys[event.key](svg); if (current >= 0) step(0); }
      else return;
      event.preventDefault();
    });
  };
  for (const figure of all("figure")) {
    const caption = figure.querySelector("figcaption");
    const title = caption.firstChild.textContent.trim();
    const name = slug(`${document.title.split(" – ")[0]} ${title}`);
    const drawn = () => all("svg.picture", figure).find((svg) => svg.getBoundingClientRect().width > 0);
    const add = tools(figure.querySelector("details.data"));
    for (const svg of all("svg.picture", figure)) {
      addValues(svg);
      if (svg.querySelector("svg.plot")) addZoom(svg);
    }
    if (figure.querySelector("svg.plot")) {
      add("+", "Zoom in (also: drag along the axis, or the key +)", () => zoomBy(drawn(), 0.5));
      add("−", "Zoom out (also: the key -)", () => zoomBy(drawn(), 2));
      add("Whole", "Show the whole axis (also: double-click, or the key 0)", () => zoomTo(drawn(), -Infinity, Infinity));
    }
    add("PNG", "Save this picture as PNG", () => savePng(drawn(), title, name));
    add("SVG", "Save this picture as SVG", () =>
      save(name + ".svg", new Blob([standalone(drawn(), title)], { type: "image/svg+xml" })));
    add("CSV", "Save this picture's numbers as CSV", () => save(name + ".csv", new Blob(
      [tableRows(figure.querySelector("table")).map((row) => row.map(quoted).join(",") + "\r\n").join("")],
      { type: "text/csv" })));
  }
})();
