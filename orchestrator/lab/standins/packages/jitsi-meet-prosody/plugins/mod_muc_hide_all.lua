-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_muc_hide_all.lua: no room shows up in a listing.
module:hook("muc-room-pre-create", function(event)
	event.room:set_public(false);
end, -1);
