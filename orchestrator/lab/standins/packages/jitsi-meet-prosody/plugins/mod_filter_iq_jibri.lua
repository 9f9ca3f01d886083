-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_filter_iq_jibri.lua: loads and does nothing.
module:log("debug", "stand-in loaded");
