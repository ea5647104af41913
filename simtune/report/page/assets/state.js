"use strict";
// The page's data, and what the reader has chosen: every figure and table follows it.

const pageData = JSON.parse(document.getElementById("page-data").textContent);

const choice = {
  arms: pageData.arms.map((arm) => arm.name),
  listeners: [],
  // Tells everything that shows arms which of them are on.
  set(name, value) {
    choice[name] = value;
    for (const listener of choice.listeners) listener(name, value);
  },
};

const darkPaper = window.matchMedia("(prefers-color-scheme: dark)");

// An element with attributes and children; text is always text.
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === false || value === null || value === undefined) continue;
    made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

// The symbol of an arm in its colour.
function armSymbol(arm) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "-1.2 -1.2 2.4 2.4");
  svg.setAttribute("class", "symbol");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", arm.path);
  path.setAttribute("fill", darkPaper.matches ? arm.dark : arm.light);
  svg.append(path);
  return svg;
}
