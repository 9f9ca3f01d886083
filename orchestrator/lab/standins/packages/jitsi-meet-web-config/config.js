// The uncommented defaults of jitsi-meet:config.js; the third-party STUN server is upstream's.
var config = {
    hosts: {
        domain: 'jitsi-meet.example.com',
        muc: 'conference.jitsi-meet.example.com'
    },
    bosh: '//jitsi-meet.example.com/http-bind',
    websocket: 'wss://jitsi-meet.example.com/xmpp-websocket',
    bridgeChannel: {},
    enableNoAudioDetection: true,
    enableNoisyMicDetection: true,
    channelLastN: -1,
    p2p: {
        enabled: true,
        stunServers: [ { urls: 'stun:meet-jit-si-turnrelay.jitsi.net:443' } ]
    },
    analytics: {},
    mouseMoveCallbackInterval: 1000
};
