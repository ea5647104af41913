"use strict";
// The table of trials: sorted by a click on a heading, filtered by words and by values, each row opens its trial.

const MOST_VALUES = 40;

class TrialTable {
  constructor(table) {
    this.table = table;
    this.body = table.tBodies[0];
    this.heads = [...table.tHead.rows[0].cells];
    this.titles = this.heads.map((head) => head.textContent.trim());
    // In the order of the page's data.
    this.rows = [...this.body.rows].map((row, number) => ({
      row,
      number,
      cells: [...row.cells].map((cell) => cell.textContent.trim()),
    }));
    this.chosen = new Map();
    this.words = [];
  }

  start() {
    this.heads.forEach((head, column) => this.addSort(head, column));
    this.rows.forEach(({ row, number }) => this.addOpen(row.cells[0], number));
    const place = document.getElementById("trial-filters");
    const search = element("input", { type: "search", id: "trial-search", size: 14 });
    search.addEventListener("input", () => {
      this.words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      this.filter();
    });
    place.append(element("label", { for: "trial-search" }, "Search"), search);
    const isText = (column) => this.heads[column].classList.contains("text") || column < 3;
    this.titles.forEach((title, column) => isText(column) && this.addFilter(place, title, column));
    this.count = element("span", { class: "facts", role: "status" });
    place.append(this.count);
    place.hidden = false;
    this.filter();
  }

  addSort(head, column) {
    const button = element("button", { type: "button", class: "sort" }, ...head.childNodes);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const isUp = head.getAttribute("aria-sort") !== "ascending";
      for (const other of this.heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", isUp ? "ascending" : "descending");
      this.sort(column, isUp ? 1 : -1);
    });
  }

  // Numbers by value, texts as people order them; what has no value is last both ways.
  sort(column, direction) {
    const value = ({ cells }) => {
      const text = cells[column];
      if (text === "–" || text === "") return null;
      const number = Number(text.replace(/,/g, ""));
      return Number.isNaN(number) ? text : number;
    };
    const compare = (a, b) => {
      if (a === null || b === null) return (a === null) - (b === null);
      if (typeof a === "number" && typeof b === "number") return direction * (a - b);
      return direction * String(a).localeCompare(String(b), "en", { numeric: true });
    };
    this.rows.sort((a, b) => compare(value(a), value(b)) || a.number - b.number);
    this.body.append(...this.rows.map(({ row }) => row));
  }

  addFilter(place, title, column) {
    const values = [...new Set(this.rows.map(({ cells }) => cells[column]))];
    if (values.length < 2 || values.length > MOST_VALUES) return;
    values.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    const options = [["", "all"], ...values.map((value) => [`=${value}`, value])];
    const change = (value) => {
      if (value) this.chosen.set(column, value.slice(1));
      else this.chosen.delete(column);
      this.filter();
    };
    place.append(...chooser.select(`filter-${column}`, title, options, "", change));
  }

  filter() {
    let shown = 0;
    for (const { row, cells } of this.rows) {
      const text = cells.join(" ").toLowerCase();
      const isShown =
        this.words.every((word) => text.includes(word)) &&
        [...this.chosen].every(([column, value]) => cells[column] === value);
      row.hidden = !isShown;
      shown += isShown;
    }
    this.count.textContent = `${shown} of ${this.rows.length} shown`;
  }

  addOpen(cell, number) {
    const arm = pageData.arms.find((each) => each.name === cell.textContent);
    const button = element("button", { type: "button", class: "open" }, ...(arm ? [armSymbol(arm)] : []), cell.textContent);
    cell.replaceChildren(button);
    button.addEventListener("click", () => openTrial(number, this.titles, this.rows.find((each) => each.number === number).cells));
  }
}

function startTrials() {
  const table = document.querySelector("#trials table");
  if (table && table.tBodies[0].rows.length === pageData.trials.length) new TrialTable(table).start();
}
