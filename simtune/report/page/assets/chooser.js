"use strict";
// What only some figures follow: the size, the grid point, the set on the map, and the two arms that are compared.

const chooser = {
  // Cells are an arm at a size of a grid point; their label is what a reader calls them.
  cellLabel(cell) {
    const size = cell.size === null ? "" : `, ${cell.size} ${cell.size === 1 ? "task" : "tasks"}`;
    const point = pageData.points.length > 1 ? ` [${pageData.points[cell.point]}]` : "";
    return `${cell.arm}${size}${point}`;
  },

  select(id, label, options, value, change) {
    const select = element("select", { id });
    for (const [key, text] of options) select.append(element("option", { value: key }, text));
    select.value = String(value);
    select.addEventListener("change", () => change(select.value));
    return [element("label", { for: id }, label), select];
  },

  // The size and the grid point, which several figures share.
  start() {
    choice.size = pageData.defaults.size;
    choice.point = 0;
    choice.chosen = pageData.defaults.chosen;
    const place = document.getElementById("arm-switches");
    if (!place) return;
    if (pageData.sizes.length > 1) {
      const sizes = pageData.sizes.map((size) => [size, `${size}`]);
      place.append(...chooser.select("size", "Tasks", sizes, choice.size, (value) => choice.set("size", Number(value))));
    }
    if (pageData.points.length > 1) {
      const points = pageData.points.map((title, number) => [number, title]);
      place.append(...chooser.select("point", "Grid point", points, 0, (value) => choice.set("point", Number(value))));
    }
  },

  // The map: the set of one trial, and its tasks as text below.
  startMap(figure) {
    const trials = pageData.trials.filter((trial) => trial.set !== null);
    const seen = new Map();
    for (const trial of trials) {
      const label = `${chooser.cellLabel(trial)}${trial.seed === null ? "" : `, seed ${trial.seed}`}`;
      if (!seen.has(label)) seen.set(label, trial.set);
    }
    const labels = [...seen.keys()];
    const parts = figure.root.querySelector(".choices");
    const list = element("details", { class: "live" });
    const show = (label) => {
      const chosen = pageData.sets[seen.get(label)];
      choice.set("chosen", chosen);
      list.replaceChildren(element("summary", {}, `The ${chosen.length} chosen tasks, in the order of choice`), taskList(chosen));
    };
    const first = labels.find((label) => pageData.sets[seen.get(label)].join() === pageData.defaults.chosen.join()) || labels[0];
    parts.append(...chooser.select("map-set", "Chosen by", labels.map((label) => [label, label]), first, show));
    parts.hidden = false;
    figure.root.append(list);
    show(first);
    chooser.showOnMap = (trial) => {
      const label = labels.find((each) => seen.get(each) === trial.set);
      document.getElementById("map-set").value = label;
      show(label);
    };
  },

  // Two arms, and their difference on every test task.
  startPaired(figure) {
    const { cells } = pageData.task_means;
    const options = cells.map((cell, number) => [number, chooser.cellLabel(cell)]);
    const pair = [...pageData.pair];
    const parts = figure.root.querySelector(".choices");
    const table = element("details", { class: "live" });
    const show = () => {
      const rows = chooser.differences(cells[pair[0]], cells[pair[1]]);
      const middle = rows.reduce((sum, row) => sum + row.difference, 0) / (rows.length || 1);
      const better = rows.filter((row) => row.difference > 0).length;
      const worse = rows.filter((row) => row.difference < 0).length;
      const names = pair.map((number) => chooser.cellLabel(cells[number]));
      choice.set("paired", { rows, middle, title: `${names[0]} − ${names[1]}` });
      const sign = middle < 0 ? "−" : "+";
      summary.textContent =
        `${names[0]} is ahead on ${better} of ${rows.length} test tasks, ${names[1]} on ${worse}; ` +
        `mean difference ${sign}${Math.abs(middle).toFixed(2)} (dashed).`;
      const lines = rows.map((row) => [row.task, row.category, row.metric, row.first.toFixed(2), row.second.toFixed(2), row.difference.toFixed(2)]);
      table.replaceChildren(
        element("summary", {}, "The differences as a table"),
        plainTable(["test task", "category", "metric", ...names, "difference"], lines, 3, `Differences of ${names.join(" and ")}`),
      );
    };
    const summary = element("p", { class: "facts live", "aria-live": "polite" });
    ["First arm", "Second arm"].forEach((label, side) => {
      parts.append(...chooser.select(`paired-${side}`, label, options, pair[side], (value) => {
        pair[side] = Number(value);
        show();
      }));
    });
    parts.hidden = false;
    figure.root.append(summary, table);
    show();
  },

  differences(first, second) {
    const rows = pageData.task_means.tasks.map((task, number) => ({ ...task, first: first.scores[number], second: second.scores[number] }));
    const known = rows.filter((row) => row.first !== null && row.second !== null);
    for (const row of known) {
      row.difference = Number((row.first - row.second).toFixed(4));
      row.sign = row.difference < 0 ? "down" : "up";
      row.words = `${row.task}: ${row.difference.toFixed(2)}`;
    }
    known.sort((a, b) => b.difference - a.difference);
    return known.map((row, number) => ({ ...row, rank: number + 1 }));
  },
};

function taskList(numbers) {
  const list = element("ol", { class: "tasks" });
  for (const number of numbers) {
    const [task, category] = pageData.tasks[number];
    list.append(element("li", {}, task, " ", element("small", {}, category)));
  }
  return list;
}

// A table of texts; the first cell of a row is its heading, and from `firstNumber` on cells are numbers.
function plainTable(heads, rows, firstNumber, label) {
  const side = (number) => (number >= firstNumber ? {} : { class: "text" });
  const head = element("tr", {}, ...heads.map((text, i) => element("th", { scope: "col", ...side(i) }, text)));
  const body = rows.map((row) =>
    element("tr", {}, ...row.map((text, i) => (i ? element("td", side(i), text) : element("th", { scope: "row" }, text)))),
  );
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);
}
