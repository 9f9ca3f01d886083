-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_muc_cleanup_backend_services.lua: loads and does nothing.
module:log("debug", "stand-in loaded");
