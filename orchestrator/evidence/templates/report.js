"use strict";
(() => {
  const articles = [...document.querySelectorAll("article")];

  const follow = () => {
    const chosen = document.querySelector("input[name=language]:checked");
    const article = chosen && articles.find((one) => one.lang === chosen.value);
    if (!article) return;
    document.documentElement.lang = chosen.value;
    document.title = article.dataset.title;
  };
  document.querySelectorAll("input[name=language]").forEach((input) => input.addEventListener("change", follow));
  follow();

  // A link to a requirement leads into a closed block: open it, and show the language that it is in.
  const open = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const article = target && target.closest("article");
    if (!article) return;
    const language = document.getElementById("language-" + article.lang);
    if (language && !language.checked) { language.checked = true; follow(); }
    if (target.tagName === "DETAILS") target.open = true;
    target.scrollIntoView();
  };
  window.addEventListener("hashchange", open);
  open();

  for (const article of articles) {
    const bar = article.querySelector(".filter");
    if (!bar) continue;
    const rows = [...article.querySelectorAll(".findings tbody tr")];
    const contents = rows.map((row) => row.textContent.toLowerCase());
    const field = (name) => bar.querySelector(name);
    const value = (name) => (field(name) ? field(name).value : "");
    const apply = () => {
      const words = value(".by-text").toLowerCase().split(/\s+/).filter(Boolean);
      const result = value(".by-result");
      const host = value(".by-host");
      let shown = 0;
      rows.forEach((row, number) => {
        const fits = (!result || row.dataset.result === result) && (!host || row.dataset.host === host)
          && words.every((word) => contents[number].includes(word));
        row.hidden = !fits;
        if (fits) shown += 1;
      });
      field(".number").textContent = shown;
      field(".reset").disabled = !words.length && !result && !host;
    };
    bar.addEventListener("input", apply);
    field(".reset").addEventListener("click", () => {
      bar.querySelectorAll("input, select").forEach((control) => { control.value = ""; });
      apply();
      field(".by-text").focus();
    });
    bar.hidden = false;
    apply();
  }
})();
