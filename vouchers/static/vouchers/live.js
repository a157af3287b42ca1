// Keeps a part of a page up to date; vouchers/admin/live.py says how to use it.
"use strict";

(() => {
    const live = document.getElementById("live");
    const said = document.getElementById("live-said");
    const every = 1000 * live.dataset.every;
    const rows = "#result_list tbody tr";
    let timer, stopped, etag, before;
    let answered = new Date();

    // The pages of the admin go back and forth by themselves.
    htmx.config.history = false;

    function ask() {
        clearTimeout(timer);
        if (!stopped && !document.hidden) htmx.trigger(live, "ask");
    }

    function say(text, address, link) {
        said.textContent = text;
        if (address) {
            const anchor = document.createElement("a");
            anchor.href = address;
            anchor.textContent = link;
            said.append(" ", anchor);
        }
    }

    function sayLost() {
        // Said once: a screen reader would read it out at every attempt.
        if (!said.textContent) say(`No answer from the desk since ${answered.toLocaleTimeString("en-GB")}; trying again…`);
    }

    function stop(...words) {
        stopped = true;
        say(...words);
    }

    // Decides what becomes of an answer; htmx itself would also show log-in pages and errors.
    function judge(event) {
        const { raw, headers } = event.detail.ctx.response;
        const here = location.pathname + location.search;
        const good = raw.status === 304 || (raw.ok && !raw.redirected);
        if (good) {
            answered = new Date();
            say("");
        }
        if (good && raw.ok) {
            etag = headers.get("ETag");
            return;
        }
        event.preventDefault();
        if (raw.redirected && new URL(raw.url).pathname === live.dataset.login) {
            stop("You are logged out.", `${live.dataset.login}?next=${encodeURIComponent(here)}`, "Log in again");
        } else if (raw.status >= 500) {
            sayLost();
        } else if (!good) {
            stop("This page is not shown any more.", here, "Load it again");
        }
    }

    // The morph tells rows apart by id, and Django gives them none: a checked box may not end up on another row.
    function nameRows(root) {
        for (const row of root.querySelectorAll(rows)) {
            const link = row.querySelector("th a");
            if (link) row.id = `row:${link.getAttribute("href")}`;
        }
        return root.querySelectorAll(rows);
    }

    const changes = new MutationObserver((records) => {
        for (const { target } of records) {
            const element = target.nodeType === Node.TEXT_NODE ? target.parentElement : target;
            element?.closest("td, th, dd")?.classList.add("desk-changed");
        }
    });

    function beforeSwap({ detail: { tasks } }) {
        const now = nameRows(live);
        before = { focused: document.activeElement, rows: new Set(Array.from(now, (row) => row.id)) };
        for (const { fragment } of tasks) {
            for (const row of nameRows(fragment)) {
                if (document.getElementById(row.id)?.classList.contains("selected")) row.classList.add("selected");
            }
        }
    }

    function afterSwap() {
        const now = live.querySelectorAll(rows);
        for (const row of now) {
            if (!before.rows.has(row.id)) row.classList.add("desk-changed");
        }
        if (now.length !== before.rows.size || live.querySelector("tr.desk-changed")) countChosen();
        // Browsers without moveBefore() take the focus off what was moved.
        if (live.contains(before.focused)) before.focused.focus({ preventScroll: true });
    }

    // Django's actions.js looks up boxes and table once; `boxes` are those of now.
    const boxes = document.getElementsByClassName("action-select");
    boxes.forEach = Array.prototype.forEach;
    const { Actions } = window;
    let table = document.getElementById("result_list");
    if (Actions) window.Actions = (_, options) => Actions(boxes, options);

    function countChosen() {
        const counter = document.querySelector("span.action-counter");
        if (!Actions || !counter) return;
        counter.dataset.actionsIcnt = boxes.length;
        const shown = document.getElementById("result_list");
        if (shown && shown !== table && boxes.length) {
            table = shown;
            Actions(boxes);
        }
        if (document.querySelector("input.select-across")?.value === "1") {
            boxes.forEach((box) => {
                box.checked = true;
                box.closest("tr").classList.add("selected");
            });
        } else if (shown) {
            // It is at this event that actions.js counts anew.
            window.dispatchEvent(new Event("pageshow"));
        }
    }

    live.addEventListener("htmx:config:request", ({ detail: { ctx } }) => {
        if (etag) ctx.request.headers["If-None-Match"] = etag;
    });
    live.addEventListener("htmx:after:request", judge);
    live.addEventListener("htmx:before:swap", beforeSwap);
    live.addEventListener("htmx:after:swap", afterSwap);
    live.addEventListener("htmx:error", ({ detail: { ctx } }) => {
        if (ctx && ctx.text === undefined) sayLost();
    });
    live.addEventListener("htmx:finally:request", () => {
        clearTimeout(timer);
        timer = setTimeout(ask, every);
    });
    live.addEventListener("animationend", ({ target }) => target.classList.remove("desk-changed"));
    changes.observe(live, { childList: true, characterData: true, subtree: true });
    document.addEventListener("visibilitychange", ask);
    timer = setTimeout(ask, every);
})();
