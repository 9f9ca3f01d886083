-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_persistent_lobby.lua: offers the lobby to muc_wait_for_host; keeps nothing itself.
module:log("debug", "loaded");
