"use strict";
// Draws the figures with Vega-Lite, each when it comes near the window, and lets them follow the reader's choices.

const NARROW = 520;

function figureOptions() {
  return {
    // The expressions of a specification are interpreted: the page's policy allows no `eval`.
    ast: true,
    renderer: "svg",
    actions: false,
    defaultStyle: false,
    tooltip: showTooltip,
    config: pageData.configs[darkPaper.matches ? "dark" : "light"],
  };
}

// The loss curves of all trials as rows.
function lossRows() {
  return pageData.trials.flatMap(({ key, arm, type, size, seed, point, num_tasks }) => {
    const losses = pageData.scores[key] ? pageData.scores[key].losses : [];
    const own = { arm, size, seed, point, tasks: num_tasks, is_full: type === "full", key: `${key}-${arm}-${seed}` };
    return losses.map(([step, loss]) => ({ ...own, step, loss }));
  });
}

class Figure {
  constructor(root) {
    this.root = root;
    this.chart = pageData.charts[root.dataset.chart];
    this.view = 0;
    this.drawn = [];
    this.width = 0;
    this.turn = Promise.resolve();
  }

  // One drawing after another: a change of the window during one must not be lost.
  draw() {
    this.turn = this.turn.then(() => this.drawNow()).catch((error) => this.fail(error));
    return this.turn;
  }

  async drawNow() {
    const place = this.root.querySelector(".chart");
    place.hidden = false;
    this.root.classList.add("drawn");
    for (const { result } of this.drawn) result.finalize();
    this.drawn = [];
    const view = this.chart.views[this.view];
    place.className = view.panels.length > 1 && !this.chart.is_wide ? "chart many" : "chart";
    if (view.panels.length > 3) place.className = "chart many";
    place.replaceChildren();
    this.width = place.clientWidth;
    for (const panel of view.panels) {
      const box = element("div", { class: "drawing" });
      const whole = element("div", { class: "panel" });
      if (panel.title) whole.append(element("h3", {}, panel.title));
      whole.append(box);
      place.append(whole);
      const result = await vegaEmbed(box, this.spec(panel.spec, box.clientWidth), figureOptions());
      this.drawn.push({ result, names: panel.spec.params.map((each) => each.name) });
    }
    for (const name of this.chart.uses) this.follow(name, choice[name]);
    await Promise.all(this.drawn.map(({ result }) => result.view.runAsync()));
    this.root.dataset.state = "ready";
  }

  // The specification with its data; names beside the lines only where there is space for them.
  spec(given, width) {
    const spec = { ...given, datasets: {}, description: this.chart.alt };
    for (const name of this.chart.datasets) spec.datasets[name] = name === "losses" ? lossRows() : pageData.datasets[name];
    if (width < NARROW && spec.padding) {
      spec.padding = { ...spec.padding, right: 8 };
      spec.params = spec.params.map((each) => (each.name === "labels" ? { ...each, value: false } : each));
    }
    return spec;
  }

  follow(name, value) {
    if (!this.chart.uses.includes(name)) return;
    for (const { result, names } of this.drawn) {
      if (name === "paired") {
        result.view.signal("title", value.title).signal("middle", value.middle);
        result.view.data("differences", value.rows).runAsync();
      } else if (names.includes(name)) {
        result.view.signal(name, value).runAsync();
      }
    }
  }

  // The still picture stays, with the reason.
  fail(error) {
    this.root.classList.remove("drawn");
    this.root.dataset.state = "failed";
    this.root.querySelector(".chart").replaceChildren(element("p", { class: "unfinished" }, `Not drawn: ${error.message}`));
  }

  addChoices() {
    if (this.chart.views.length < 2) return;
    const id = `view-${this.root.dataset.chart}`;
    const select = element("select", { id });
    this.chart.views.forEach((view, number) => select.append(element("option", { value: number }, view.name)));
    select.addEventListener("change", () => {
      this.view = Number(select.value);
      this.draw();
    });
    const choices = this.root.querySelector(".choices");
    choices.append(element("label", { for: id }, "Show"), select);
    choices.hidden = false;
  }
}

function startFigures() {
  const figures = [...document.querySelectorAll("figure[data-chart]")].map((root) => new Figure(root));
  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        near.unobserve(entry.target);
        figures.find((figure) => figure.root === entry.target).draw();
      }
    },
    { rootMargin: "600px" },
  );
  for (const figure of figures) {
    figure.addChoices();
    if (figure.root.dataset.chart === "task_map") chooser.startMap(figure);
    if (figure.root.dataset.chart === "paired") chooser.startPaired(figure);
    near.observe(figure.root);
  }
  choice.listeners.push((name, value) => figures.forEach((figure) => figure.follow(name, value)));
  const again = (isNeeded) => figures.filter((figure) => figure.drawn.length && isNeeded(figure)).forEach((figure) => figure.draw());
  darkPaper.addEventListener("change", () => again(() => true));
  let timer = 0;
  window.addEventListener("resize", () => {
    window.clearTimeout(timer);
    timer = window.setTimeout(() => again((figure) => figure.root.querySelector(".chart").clientWidth !== figure.width), 150);
  });
}

// A switch for each arm, with its symbol: the legend of all figures.
function startArmSwitches() {
  const place = document.getElementById("arm-switches");
  if (!place || !pageData.arms.length) return;
  const boxes = pageData.arms.map((arm, number) => {
    const box = element("input", { type: "checkbox", id: `arm-${number}`, checked: true });
    box.addEventListener("change", report);
    place.append(element("label", { for: `arm-${number}` }, box, armSymbol(arm), arm.name));
    return box;
  });
  function report() {
    choice.set("arms", pageData.arms.filter((arm, number) => boxes[number].checked).map((arm) => arm.name));
  }
  for (const [text, isOn] of [["all", true], ["none", false]]) {
    const button = element("button", { type: "button" }, text);
    button.addEventListener("click", () => {
      for (const box of boxes) box.checked = isOn;
      report();
    });
    place.append(button);
  }
  darkPaper.addEventListener("change", () => {
    place.querySelectorAll("svg.symbol").forEach((svg, number) => svg.replaceWith(armSymbol(pageData.arms[number])));
  });
  place.hidden = false;
}
