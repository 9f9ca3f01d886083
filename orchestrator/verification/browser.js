// Runs in every page before the page's own scripts: tells what neither a request nor a failed one shows.
(() => {
  // Upstream's application fills in addresses of its maker's in the very settings that it was given (jitsi-meet:react/features/
  // base/config/functions.web.ts _setDeeplinkingDefaults): they are kept as they are when its first script is about to run.
  const settings = () => window.config ? JSON.parse(JSON.stringify(window.config)) : null;
  let given = null;
  window.ratssaalGiven = () => given || settings();
  new MutationObserver((changes) => {
    const scripts = changes.flatMap((change) => [...change.addedNodes]).filter((node) => node.localName === "script");
    if (scripts.some((script) => /(^|\/)libs\//.test(script.getAttribute("src") || ""))) given = given || settings();
  }).observe(document, { childList: true, subtree: true });
  const tell = (kind, url) => window.ratssaalSaw(kind, String(url));
  document.addEventListener("securitypolicyviolation", (event) => tell(event.effectiveDirective, event.blockedURI));
  // STUN and TURN go by UDP, WebTransport by QUIC: no request is seen for either.
  const watched = {
    RTCPeerConnection: (options) =>
      ((options && options.iceServers) || []).flatMap((server) => server.urls || server.url || []),
    WebTransport: (url) => [url],
  };
  for (const [name, urls] of Object.entries(watched)) {
    if (!window[name]) continue;
    window[name] = new Proxy(window[name], {
      construct(target, given) {
        for (const url of urls(given[0])) tell(name, url);
        return Reflect.construct(target, given);
      },
    });
  }
})();
