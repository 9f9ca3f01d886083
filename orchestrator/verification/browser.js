// Runs in every page before the page's own scripts: tells what neither a request nor a failed one shows.
(() => {
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
