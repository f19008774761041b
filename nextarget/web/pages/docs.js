"use strict";
const place = document.getElementById("swagger-ui");

// Swagger UI names the fields of parameters by a text beside them, which screen readers do not see (WCAG 2.2, 4.1.2).
new MutationObserver(() => {
  for (const field of place.querySelectorAll("td :is(input, select, textarea):not([aria-label])")) {
    const name = field.closest("tr").querySelector(".parameter__name");
    if (name) field.setAttribute("aria-label", name.textContent);
  }
}).observe(place, { childList: true, subtree: true });

// No deep links: they would be links inside of buttons. No colours in examples: some of them are hard to read.
window.ui = SwaggerUIBundle({ url: "/openapi.json", domNode: place, syntaxHighlight: false, validatorUrl: null });
