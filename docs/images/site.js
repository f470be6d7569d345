// Tables that are wider than the page scroll by themselves: the keyboard can reach these.
const reachTables = () => requestAnimationFrame(() => {
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) {
    if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
    else table.removeAttribute("tabindex");
  }
});
document$.subscribe(reachTables);
addEventListener("resize", reachTables);
