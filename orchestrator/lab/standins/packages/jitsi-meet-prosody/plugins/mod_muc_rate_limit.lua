-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_muc_rate_limit.lua: loads and does nothing.
module:log("debug", "stand-in loaded");
