-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_features_identity.lua: loads and does nothing.
module:log("debug", "stand-in loaded");
