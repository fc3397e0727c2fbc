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

  // Copies what was run to the clipboard.
  for (const copy of all("button.copy")) {
    copy.addEventListener("click", async () => {
      const source = document.getElementById(copy.dataset.copies);
      let done = true;
      try {
        await navigator.clipboard.writeText(source.textContent);
      } catch {
        const range = document.createRange();
        range.selectNodeContents(source);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        done = document.execCommand("copy");
      }
      copy.textContent = done ? "Copied" : "Selected: copy with your keyboard";
    });
  }
})();
