-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_muc_filter_access.lua: loads and does nothing.
module:log("debug", "stand-in loaded");
