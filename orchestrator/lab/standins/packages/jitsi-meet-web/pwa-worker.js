// Ratssaal stand-in of jitsi-meet:pwa-worker.js: keeps the page for a lost connection in a cache.
self.addEventListener('install', event => {
    event.waitUntil(caches.open('offline').then(cache => cache.add(new Request('static/offline.html', { cache: 'reload' }))));
    self.skipWaiting();
});
self.addEventListener('activate', () => self.clients.claim());
