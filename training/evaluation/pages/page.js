"use strict";

const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

// Sorting: a button in each heading of a table of scores; numbers by their exact value, cells without one come last.
const valueOf = (cell) => {
  const number = cell.querySelector("data");
  if (number) return number.value === "" ? null : Number(number.value);
  const text = cell.textContent.trim();
  const read = Number(text.replace(/,/g, "").replace("\u2212", "-"));
  return text !== "" && !Number.isNaN(read) ? read : text === "" || cell.classList.contains("none") ? null : plain(text);
};
const sortBy = (table, column, descending) => {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row, place) => ({ row, place, value: valueOf(row.cells[column]) }));
  const sign = descending ? -1 : 1;
  rows.sort((a, b) => {
    if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.place - b.place;
    if (typeof a.value !== typeof b.value) return typeof a.value === "number" ? -1 : 1;
    return sign * (a.value < b.value ? -1 : a.value > b.value ? 1 : 0) || a.place - b.place;
  });
  body.append(...rows.map(({ row }) => row));
};
for (const table of document.querySelectorAll("table.by-direction")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      const descending = before ? before === "ascending" : column > 0;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortBy(table, column, descending);
    });
  });
}

// Filtering: rows and folded parts of directions whose code or names have all words.
const toolbar = document.querySelector(".toolbar");
const find = document.getElementById("find");
const rows = [...document.querySelectorAll("table.by-direction > tbody > tr")];
const parts = [...document.querySelectorAll("details.by-direction")];
const entries = [
  ...rows.map((item) => ({ item, text: plain(item.cells[0].textContent) })),
  ...parts.map((item) => ({ item, text: plain(item.querySelector("summary").textContent) })),
];
const filter = () => {
  const words = plain(find.value).split(/\s+/).filter(Boolean);
  for (const { item, text } of entries) item.hidden = !words.every((word) => text.includes(word));
  const directions = new Set(entries.map(({ item, text }) => (item.cells ? text : null)).filter((text) => text !== null));
  const left = [...directions].filter((text) => words.every((word) => text.includes(word)));
  document.getElementById("found").textContent = words.length ? `${left.length} of ${directions.size}` : "";
};
let waiting = 0;
find.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(filter, 80);
});
toolbar.addEventListener("submit", (event) => event.preventDefault());
for (const box of toolbar.querySelectorAll("[data-shows]")) {
  const show = () => document.body.classList.toggle(`without-${box.dataset.shows}`, !box.checked);
  box.addEventListener("change", show);
  show();
}
toolbar.hidden = false;

// Copying: what is selected can also be copied by hand where the browser does not let the page do it.
const signatures = document.getElementById("signatures");
if (signatures) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", () => {
    getSelection().selectAllChildren(signatures);
    button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
  });
  signatures.before(button);
}
