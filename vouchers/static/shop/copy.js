// A button that copies what an element says. Without JavaScript, or where the browser forbids it, there is none.
"use strict";

for (const button of document.querySelectorAll("[data-copy]")) {
    const said = button.parentElement.querySelector("[role=status]");
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
        said.textContent = button.dataset.copied;
    });
}
