-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_limits_exception.lua: loads and does nothing.
module:log("debug", "stand-in loaded");
