// Looks again while something is under way (and now and then otherwise); an unchanged list costs a 304.
(() => {
  "use strict";
  const place = document.getElementById("newest");
  if (!place) return;
  const FAST = 3000, SLOW = 20000;
  let last = place.innerHTML;
  const playing = () => [...place.querySelectorAll("video")].some((video) => !video.paused);
  // A video plays in its place; without script its link opens it.
  place.addEventListener("click", (event) => {
    const frame = event.target.closest("a[data-video]");
    if (!frame || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    const video = document.createElement("video");
    Object.assign(video, { src: frame.href, controls: true, autoplay: true, loop: true });
    frame.replaceWith(video);
    video.focus();
  });
  async function look() {
    let wait = place.querySelector("[data-live=yes]") ? FAST : SLOW;
    if (!document.hidden && !playing()) {
      try {
        const answer = await fetch(place.dataset.url, { cache: "no-cache", credentials: "same-origin", redirect: "error" });
        if (answer.ok) {
          const text = await answer.text();
          if (text !== last) { place.innerHTML = last = text; }
        }
      } catch { wait = SLOW; }
    }
    window.setTimeout(look, wait);
  }
  window.setTimeout(look, FAST);
})();
