// Ratssaal stand-in of jitsi-meet's application: reads config.js as upstream's does, contacts nobody but its own server.
/* global config, interfaceConfig */
document.getElementById('name').textContent = (window.interfaceConfig && interfaceConfig.APP_NAME) || 'Jitsi Meet';
document.getElementById('facts').textContent = 'domain: ' + config.hosts.domain + '\nroom: ' + location.pathname;
