// Tabs by the ARIA practices: arrows, Home and End move and choose; the address keeps which one is open.

/** @param chosen called with the id of the panel that opens */
export function startTabs(list, chosen) {
  const tabs = [...list.querySelectorAll("[role=tab]")].filter((tab) => !tab.hidden);
  const panel = (tab) => document.getElementById(tab.getAttribute("aria-controls"));

  function open(tab, focus) {
    for (const other of list.querySelectorAll("[role=tab]")) {
      const here = other === tab;
      other.setAttribute("aria-selected", String(here));
      other.tabIndex = here ? 0 : -1;
      panel(other).hidden = !here;
    }
    if (focus) tab.focus();
    history.replaceState(null, "", `#${panel(tab).id}`);
    chosen(panel(tab).id);
  }

  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) open(tab, false);
  });
  list.addEventListener("keydown", (event) => {
    const here = tabs.indexOf(document.activeElement);
    const last = tabs.length - 1;
    const [left, right] = [here === 0 ? last : here - 1, here === last ? 0 : here + 1];
    const next = { ArrowLeft: left, ArrowRight: right, Home: 0, End: last };
    if (here < 0 || !(event.key in next)) return;
    event.preventDefault();
    open(tabs[next[event.key]], true);
  });
  const asked = tabs.find((tab) => `#${panel(tab).id}` === location.hash);
  list.hidden = tabs.length < 2;
  open(asked ?? tabs[0], false);
  return (id) => open(tabs.find((tab) => panel(tab).id === id), false);
}
