// What a loaded page holds: its settings, its branding, what it stored, whom it wants to meet soon.
async () => {
  const settings = window.ratssaalGiven();
  // A foreign branding is the application's to ask for, not ours.
  const branding = settings && settings.dynamicBrandingUrl ? new URL(settings.dynamicBrandingUrl, location) : null;
  const fetched = branding && branding.origin === location.origin
    ? await fetch(branding).then((answer) => answer.json()).catch(() => null)
    : null;
  const hints = [...document.querySelectorAll("link[rel]")].filter((link) =>
    /\b(preconnect|dns-prefetch|prerender)\b/i.test(link.rel));
  const generator = document.querySelector("meta[name=generator]");
  return {
    settings,
    branding: fetched,
    hints: hints.map((link) => link.href),
    upstream: window.JitsiMeetJS ? String(window.JitsiMeetJS.version || "of unknown version") : "",
    generator: generator ? generator.content : "",
    storage: {
      "local storage": Object.keys(localStorage),
      "session storage": Object.keys(sessionStorage),
      "databases": (await indexedDB.databases()).map((one) => one.name),
      "caches": await caches.keys(),
      "service workers": (await navigator.serviceWorker.getRegistrations()).map((one) => one.scope),
    },
  };
}
