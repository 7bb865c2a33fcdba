"use strict";
// Sort a table by a click on a column's head. Without this script the table stands as it was measured.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const first = head.dataset.better === "high" ? "descending" : "ascending";
      const order = before ? (before === "ascending" ? "descending" : "ascending") : first;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
      const rows = [...table.tBodies[0].rows].sort((one, other) => {
        const [a, b] = [key(one), key(other)];
        if (a === "" || b === "") return (a === "") - (b === "");
        const [x, y] = [Number(a), Number(b)];
        return sign * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y);
      });
      table.tBodies[0].append(...rows);
    });
  });
}
// A link to a part that is folded away unfolds it.
const unfold = () => document.getElementById(location.hash.slice(1))?.closest("section")?.querySelector("details.more")?.setAttribute("open", "");
addEventListener("hashchange", unfold);
unfold();
// What is folded away belongs on paper, too.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((fold) => { fold.open = true; }));
