"use strict";
// Tables of class "sortable": a click on a heading sorts by that column, a second click the other way round.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    if (!heading.dataset.sort) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const isText = heading.dataset.sort === "text";
      const first = isText ? "ascending" : "descending";
      const second = isText ? "descending" : "ascending";
      const order = heading.getAttribute("aria-sort") === first ? second : first;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const keyed = [...table.tBodies[0].rows].map((row) => [row.cells[column].dataset.value, row]);
      keyed.sort(([a], [b]) => {
        if (a === "" || b === "") return (a === "") - (b === ""); // what does not exist comes last
        return sign * (isText ? a.localeCompare(b) : Number(a) - Number(b));
      });
      table.tBodies[0].append(...keyed.map(([, row]) => row));
    });
  });
}
