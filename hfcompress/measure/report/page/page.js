
"use strict";
// Filters the table of examples; without this script the whole table is there.
(() => {
  const text = document.getElementById("filter-text");
  const model = document.getElementById("filter-model");
  const count = document.getElementById("filter-count");
  const rows = [...document.querySelectorAll(".examples tbody tr")];
  const show = () => {
    const wanted = text.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const differs = !model.value || row.dataset.differs.split(" ").includes(model.value);
      row.hidden = !(differs && row.textContent.toLowerCase().includes(wanted));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  };
  const form = document.querySelector(".filter");
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const event of ["input", "change"]) form.addEventListener(event, show);
  show();
})();
