"use strict";
// One trial: its numbers, its chosen tasks, the scores of its test tasks, its loss, its cost and what it answered.

const ANSWERS_AT_ONCE = 50;

function openTrial(number, titles, cells) {
  const trial = pageData.trials[number];
  const score = pageData.scores[trial.key] || { tasks: [], costs: [], losses: [], answers: null, file: null };
  const title = `${chooser.cellLabel(trial)}${trial.seed === null ? "" : `, seed ${trial.seed}`}`;
  const dialog = element("dialog", { class: "trial", "aria-labelledby": "trial-title" });
  const close = element("button", { type: "button", class: "close" }, "Close");
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  // A click beside the dialog closes it too.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  const facts = titles.map((name, i) => [name, cells[i]]).filter(([, text]) => text && text !== "–");
  const body = element("div", { class: "inside" }, element("h2", { id: "trial-title" }, title), close);
  if (trial.error) body.append(element("p", { class: "unfinished" }, trial.error));
  body.append(definitions([...facts, ...score.costs, ["trial and score", trial.key]]));
  if (trial.note) body.append(element("p", {}, trial.note));
  dialog.append(body);
  document.body.append(dialog);
  dialog.showModal();
  addSet(body, trial, dialog);
  addTaskScores(body, trial, score);
  addLosses(body, score);
  addAnswers(body, score);
}

function definitions(pairs) {
  const list = element("dl", { class: "facts-list" });
  for (const [name, text] of pairs) list.append(element("div", {}, element("dt", {}, name), element("dd", {}, text)));
  return list;
}

function addSet(body, trial, dialog) {
  if (trial.set === null) return;
  const chosen = pageData.sets[trial.set];
  body.append(element("h3", {}, `Trained on ${chosen.length} ${chosen.length === 1 ? "task" : "tasks"}, in the order of choice`));
  if (chooser.showOnMap) {
    const button = element("button", { type: "button" }, "Show on the map");
    button.addEventListener("click", () => {
      dialog.close();
      chooser.showOnMap(trial);
      document.getElementById("figure-task_map").scrollIntoView();
    });
    body.append(button);
  }
  const list = taskList(chosen);
  if (chosen.length <= 40) body.append(list);
  else body.append(element("details", {}, element("summary", {}, "The tasks"), list));
}

// Beside each score what the other arms have on average, at the same size.
function addTaskScores(body, trial, score) {
  const { tasks, cells } = pageData.task_means;
  const peers = cells.filter((cell) => cell.type === "strategy" && cell.size === trial.size && cell.point === trial.point);
  const lines = tasks
    .map((task, i) => {
      const own = score.tasks[i];
      const others = peers.map((cell) => cell.scores[i]).filter((value) => value !== null);
      const middle = others.length ? others.reduce((a, b) => a + b, 0) / others.length : null;
      return { task, own, middle };
    })
    .filter(({ own }) => own !== null && own !== undefined)
    .map(({ task, own, middle }) => [
      task.task, task.category, task.metric, own.toFixed(2),
      middle === null ? "–" : middle.toFixed(2), middle === null ? "–" : (own - middle).toFixed(2),
    ]);
  if (!lines.length) return;
  body.append(element("h3", {}, "Scores of the test tasks"));
  const heads = ["test task", "category", "metric", "score", "mean of the arms", "difference"];
  body.append(plainTable(heads, lines, 3, "Scores of the test tasks of this trial"));
}

function addLosses(body, score) {
  if (!score.losses.length) return;
  const place = element("div", { class: "drawing" });
  body.append(element("h3", {}, "Training loss by step"), place);
  const number = (field, title) => ({ field, type: "quantitative", scale: { zero: false, nice: false }, axis: { title } });
  const spec = {
    width: "container", height: 180, autosize: { type: "fit-x", contains: "padding" },
    description: `Training loss from ${score.losses[0][1]} to ${score.losses.at(-1)[1]} nats a target token.`,
    data: { values: score.losses.map(([step, loss]) => ({ step, loss })) },
    mark: { type: "line", point: { size: 30 }, aria: false },
    encoding: {
      x: number("step", "step"), y: number("loss", "loss, nats a target token"),
      tooltip: [{ field: "step", type: "quantitative" }, { field: "loss", type: "quantitative", format: ".4f" }],
    },
  };
  vegaEmbed(place, spec, figureOptions());
}

// Answers beside their references, with a search; all of them on demand from a file beside the page.
function addAnswers(body, score) {
  const answers = score.answers;
  if (!answers) return;
  body.append(element("h3", {}, "What the model answered"));
  if (answers.problem) {
    body.append(element("p", { class: "unfinished" }, answers.problem));
    return;
  }
  let rows = answers.rows;
  const search = element("input", { type: "search", id: "answer-search", size: 18 });
  const wrong = element("input", { type: "checkbox", id: "answer-wrong" });
  const count = element("span", { class: "facts", role: "status" });
  const place = element("div", {});
  const choices = element("div", { class: "choices" });
  choices.append(
    element("label", { for: "answer-search" }, "Search"), search,
    element("label", { for: "answer-wrong" }, wrong, " only answers that equal no reference"), count,
  );
  let most = ANSWERS_AT_ONCE;
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = rows.filter(([instance, task, answer, references, equals]) => {
      const text = [instance, task, answer, ...references].join(" ").toLowerCase();
      return !(wrong.checked && equals) && words.every((word) => text.includes(word));
    });
    const sample = rows.length < answers.total ? `a sample of ${rows.length} of ` : "";
    count.textContent = `${found.length} found in ${sample}${answers.total}`;
    const lines = found.slice(0, most).map(([instance, task, answer, references, equals, values]) => [
      instance, answer || "(empty)", references.join(" | "), equals ? "yes" : "no", ...values.map((value) => (value === null ? "–" : value.toFixed(2))),
    ]);
    const table = plainTable(["instance", "answer", "references", "equal", ...answers.metrics], lines, 4, "Answers of this trial");
    place.replaceChildren(table);
    if (found.length > most) {
      const more = element("button", { type: "button" }, `Show ${Math.min(ANSWERS_AT_ONCE, found.length - most)} more`);
      more.addEventListener("click", () => {
        most += ANSWERS_AT_ONCE;
        show();
      });
      place.append(more);
    }
  };
  search.addEventListener("input", show);
  wrong.addEventListener("change", show);
  if (score.file) addAllAnswers(choices, score.file, (all) => { rows = all.rows; show(); });
  body.append(choices, place);
  show();
}

// A page from a disk cannot fetch a file, but it can show one in a frame, which hands over its data.
function addAllAnswers(choices, file, use) {
  const button = element("button", { type: "button" }, "Load all answers");
  const said = element("span", { class: "facts", role: "status" });
  button.addEventListener("click", () => {
    const frame = element("iframe", { sandbox: "allow-scripts", src: file, hidden: true, title: "answers" });
    const timer = window.setTimeout(() => { said.textContent = `Not found: ${file} beside this page.`; }, 8000);
    const receive = (event) => {
      if (event.source !== frame.contentWindow || !event.data.answers) return;
      window.clearTimeout(timer);
      window.removeEventListener("message", receive);
      frame.remove();
      button.remove();
      said.textContent = "";
      use(event.data.answers);
    };
    window.addEventListener("message", receive);
    document.body.append(frame);
  });
  choices.append(button, said);
}
