// What the page's policy really lets through. `.invalid` never resolves (RFC 6761), so that nothing leaves the browser.
async (origins) => {
  const within = (promise) => Promise.race([promise, new Promise((done) => setTimeout(() => done(false), 3000))]);
  const refused = (url, ask) => within(new Promise((done) => {
    const listen = (event) => { if (event.blockedURI.startsWith(url)) done(true); };
    document.addEventListener("securitypolicyviolation", listen);
    ask(url);
  }));
  const element = (tag, attribute, more = {}) => (url) => {
    const made = Object.assign(document.createElement(tag), more, { [attribute]: url });
    document.body.append(made);
    setTimeout(() => made.remove(), 3000);
  };
  const connect = (url) => { fetch(url, { mode: "no-cors" }).catch(() => {}); };
  const foreign = {
    connection: connect,
    image: element("img", "src"),
    script: element("script", "src"),
    "style sheet": element("link", "href", { rel: "stylesheet" }),
    frame: element("iframe", "src"),
  };
  const names = Object.keys(foreign);
  const answers = await Promise.all(
    names.map((name, place) => refused(`https://third-party-${place}.invalid`, foreign[name])));
  const script = new Blob(["postMessage(true)"], { type: "text/javascript" });
  const worker = () => new Promise((done) => {
    try {
      const made = new Worker(URL.createObjectURL(script));
      made.onmessage = () => done(true);
      made.onerror = () => done(false);
    } catch (error) { done(false); }
  });
  const empty = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);
  const declared = await Promise.all(origins.map((origin) => refused(origin, connect)));
  return {
    foreign: Object.fromEntries(names.map((name, place) => [name, answers[place]])),
    wasm: await within(WebAssembly.instantiate(empty).then(() => true, () => false)),
    worker: await within(worker()),
    declared: Object.fromEntries(origins.map((origin, place) => [origin, !declared[place]])),
  };
}
