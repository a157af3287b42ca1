// The total at the checkout follows the quantity while it is typed.
"use strict";

(() => {
    const { price, currency, places } = document.currentScript.dataset;
    const quantity = document.getElementById("id_quantity");
    const totals = document.querySelectorAll("[data-total]");

    function follow() {
        if (!quantity.value || !quantity.checkValidity()) return;
        const total = `${(price * quantity.value).toFixed(places)} ${currency}`;
        for (const element of totals) element.textContent = total;
    }

    quantity.addEventListener("input", follow);
    // The browser may have put back what was typed before.
    window.addEventListener("pageshow", follow);
})();
