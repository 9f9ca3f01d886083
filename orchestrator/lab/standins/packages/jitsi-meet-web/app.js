// Ratssaal stand-in of jitsi-meet's application: asks for what upstream's asks for when a page opens, as far as a setting
// decides it. It holds no conference. Sources are those of jitsi-meet.
/* global config, interfaceConfig */
(() => {
    const room = decodeURIComponent(location.pathname.slice(1));
    const add = (tag, values) => document.head.append(Object.assign(document.createElement(tag), values));
    const store = (key, value) => localStorage.setItem(key, JSON.stringify(value));

    // The very object that config.js made is filled in (react/features/base/config/functions.web.ts _setDeeplinkingDefaults).
    config.deeplinking = config.deeplinking || {};
    config.deeplinking.desktop = config.deeplinking.desktop || {
        appName: 'Jitsi Meet',
        download: { linux: 'https://github.com/jitsi/jitsi-meet-electron/releases/latest/download/jitsi-meet-x86_64.AppImage' }
    };

    document.getElementById('name').textContent = (window.interfaceConfig && interfaceConfig.APP_NAME) || 'Jitsi Meet';
    document.getElementById('facts').textContent = 'domain: ' + config.hosts.domain + '\nroom: ' + room;

    // Settings are kept on the device, rooms unless that is switched off (react/features/base/settings/reducer.ts,
    // react/features/recent-list/middleware.ts).
    store('features/base/settings', {
        startWithAudioMuted: Boolean(config.startWithAudioMuted),
        startWithVideoMuted: Boolean(config.startWithVideoMuted)
    });
    if (room && !config.doNotStoreRoom) {
        store('features/recent-list', [ { conference: location.href, date: Date.now(), duration: 0 } ]);
    }

    // Statistics (react/features/base/lib-jitsi-meet/functions.any.ts, react/features/analytics/functions.ts and
    // handlers/MatomoHandler.ts).
    const analytics = config.analytics || {};
    if (!config.disableThirdPartyRequests && !analytics.disabled) {
        const scripts = [ ...analytics.scriptURLs || [] ];
        if (analytics.matomoEndpoint && analytics.matomoSiteID) {
            scripts.push(analytics.matomoEndpoint.replace(/\/?$/, '/') + 'matomo.js');
        }
        scripts.forEach(src => add('script', { src, async: true }));
    }

    // Branding (react/features/dynamic-branding/actions.any.ts, functions.any.ts, middleware.any.ts): the logo, the
    // background of the page before a meeting as CSS, icons; other images are loaded when they are needed.
    const branding = config.dynamicBrandingUrl
        || (config.brandingDataUrl && room && config.brandingDataUrl + '?conferenceFqn=' + encodeURIComponent(room));
    if (branding) {
        fetch(branding).then(answer => answer.json()).then(brand => {
            const logo = document.getElementById('logo');
            if (brand.logoClickUrl) {
                logo.href = brand.logoClickUrl;
            }
            if (brand.logoImageUrl) {
                logo.append(Object.assign(document.createElement('img'), { alt: 'Logo', height: 48, src: brand.logoImageUrl }));
            }
            document.body.style.background = (room && brand.premeetingBackground) || brand.backgroundColor || '';
            Object.values(brand.customIcons || {}).forEach(icon => fetch(icon).catch(() => undefined));
        })
            .catch(error => console.error('Error fetching branding data', error));
    }

    // jitsi-meet:index.html registers it on every page that is not embedded.
    if ('serviceWorker' in navigator && window.self === window.top) {
        navigator.serviceWorker.register('/pwa-worker.js').catch(error => console.log(error));
    }
})();
