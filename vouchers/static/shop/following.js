// Follows a purchase: asks for the part of its page that changes, while somebody looks and until it is over.
"use strict";

(() => {
    const live = document.getElementById("following");
    const said = document.getElementById("following-said");
    const { lost, ended } = said.dataset; // in the language of the page
    let timer, stopped;

    // The page goes back and forth by itself.
    htmx.config.history = false;

    const state = () => live.querySelector("[data-every]").dataset;

    function ask() {
        clearTimeout(timer);
        if (!stopped && !document.hidden) htmx.trigger(live, "ask");
    }

    function wait() {
        clearTimeout(timer);
        stopped ||= "over" in state();
        if (!stopped) timer = setTimeout(ask, 1000 * state().every);
    }

    // A screen reader reads out what changes here, so a sentence that stands already is left alone.
    function say(text) {
        if (said.textContent !== text) said.textContent = text;
    }

    // htmx itself would also show errors.
    function judge(event) {
        const { raw } = event.detail.ctx.response;
        if (raw.ok) return say("");
        event.preventDefault();
        stopped = raw.status < 500;
        return say(stopped ? ended : lost);
    }

    live.addEventListener("htmx:after:request", judge);
    live.addEventListener("htmx:error", ({ detail: { ctx } }) => {
        if (ctx && ctx.text === undefined) say(lost);
    });
    live.addEventListener("htmx:finally:request", wait);
    document.addEventListener("visibilitychange", ask);
    wait();
})();
