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

  // A folded part prints as it would be read.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((one) => { one.open = true; });
  });
  window.addEventListener("afterprint", () => folded.forEach((one) => { one.open = false; }));

  // Both languages show the same selection.
  const chosen = { text: "", result: "", family: "", host: "" };
  const names = Object.keys(chosen);
  const updates = articles.map((article) => {
    const bar = article.querySelector(".filter");
    if (!bar) return () => {};
    const rows = [...article.querySelectorAll(".findings tbody tr")];
    const contents = rows.map((row) => row.textContent.toLowerCase());
    const field = (name) => bar.querySelector(".by-" + name);
    const reset = bar.querySelector(".reset");
    bar.addEventListener("input", () => {
      names.forEach((name) => { if (field(name)) chosen[name] = field(name).value; });
      update();
    });
    reset.addEventListener("click", () => {
      names.forEach((name) => { chosen[name] = ""; });
      update();
      field("text").focus();
    });
    article.querySelectorAll("[data-show]").forEach((link) => link.addEventListener("click", () => {
      names.forEach((name) => { chosen[name] = name === "result" ? link.dataset.show : ""; });
      update();
    }));
    bar.hidden = false;
    return () => {
      names.forEach((name) => { if (field(name) && field(name).value !== chosen[name]) field(name).value = chosen[name]; });
      const words = chosen.text.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, number) => {
        const fits = ["result", "family", "host"].every((name) => !chosen[name] || row.dataset[name] === chosen[name])
          && words.every((word) => contents[number].includes(word));
        row.hidden = !fits;
        if (fits) shown += 1;
      });
      bar.querySelector(".number").textContent = shown;
      article.querySelector(".no-match").hidden = shown > 0;
      reset.disabled = names.every((name) => !chosen[name].trim());
    };
  });
  const update = () => updates.forEach((one) => one());
  update();
})();
