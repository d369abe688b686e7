// Replaces each [data-live] part of the page by its newest state: at each event of the server,
// every two seconds while there are no events, and now and then for the ages.
(() => {
  "use strict";
  if (!document.querySelector("[data-live]")) return;
  let busy = false;
  let again = false;

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      if (answer.redirected) { location.reload(); return; }
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of document.querySelectorAll("[data-live]")) {
        const next = page.getElementById(part.id);
        if (next && next.innerHTML !== part.innerHTML) part.replaceWith(next);
      }
    } catch { /* the console restarts: the next turn finds it */ } finally {
      busy = false;
      if (again) { again = false; setTimeout(refresh, 200); }
    }
  }

  const events = new EventSource("/events");
  events.onmessage = refresh;
  setInterval(() => { if (events.readyState !== EventSource.OPEN) refresh(); }, 2000);
  setInterval(refresh, 15000);
})();
