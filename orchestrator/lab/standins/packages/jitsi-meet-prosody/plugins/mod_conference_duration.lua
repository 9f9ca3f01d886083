-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_conference_duration.lua: loads and does nothing.
module:log("debug", "stand-in loaded");
