"use strict";
// What appears beside the pointer: names and values as text, never as markup.

const tooltip = {
  box: null,

  show(event, value) {
    if (!tooltip.box) {
      tooltip.box = element("div", { class: "tip", role: "tooltip" });
      document.body.append(tooltip.box);
    }
    const rows = typeof value === "object" ? Object.entries(value) : [["", value]];
    const shown = rows.filter(([, text]) => text !== null && text !== undefined && !["", "null", "NaN"].includes(String(text)));
    tooltip.box.replaceChildren(
      ...shown.map(([name, text]) => element("div", {}, element("span", {}, name), ` ${text}`)),
    );
    tooltip.box.hidden = false;
    // Left of the pointer where there is no space at its right.
    const { width, height } = tooltip.box.getBoundingClientRect();
    const left = event.clientX + 14 + width > window.innerWidth ? event.clientX - width - 10 : event.clientX + 14;
    const top = event.clientY + 14 + height > window.innerHeight ? event.clientY - height - 10 : event.clientY + 14;
    tooltip.box.style.left = `${Math.max(4, left)}px`;
    tooltip.box.style.top = `${Math.max(4, top)}px`;
  },

  hide() {
    if (tooltip.box) tooltip.box.hidden = true;
  },
};

// Vega calls this with an empty value when the pointer leaves.
function showTooltip(handler, event, item, value) {
  if (value === null || value === undefined || value === "") tooltip.hide();
  else tooltip.show(event, value);
}
