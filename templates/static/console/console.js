// The console's few lines of script: a form is sent once, a bulk action goes on by itself, a live page looks again.
(() => {
  "use strict";
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("[data-once]")) return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    for (const button of form.querySelectorAll("button[type=submit]")) button.setAttribute("aria-disabled", "true");
  });
  // Back in the browser shows the page as it was left: let its forms be sent again.
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("[data-once][data-sent]")) delete form.dataset.sent;
  });
  document.addEventListener("DOMContentLoaded", () => {
    const next = document.querySelector("form[data-continue]");
    if (next) window.setTimeout(() => next.submit(), 150);
    const live = document.querySelector("[data-reload-seconds]");
    if (live) {
      window.setInterval(() => {
        const busy = document.hidden || document.querySelector(".dr-page details[open]") || window.getSelection().toString();
        if (!busy && ![...document.querySelectorAll("video")].some((video) => !video.paused)) window.location.reload();
      }, Number(live.dataset.reloadSeconds) * 1000);
    }
  });
})();
