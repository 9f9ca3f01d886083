-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_jitsi_session.lua: loads and does nothing.
module:log("debug", "stand-in loaded");
