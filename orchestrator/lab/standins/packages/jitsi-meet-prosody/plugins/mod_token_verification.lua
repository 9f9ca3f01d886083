-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_token_verification.lua: a token opens only the room that it names.
local jid = require "util.jid";
local st = require "util.stanza";

module:hook("muc-occupant-pre-join", function(event)
	local session, room = event.origin, event.room;
	local claimed = session and session.jitsi_meet_room;
	if claimed and claimed ~= "*" and claimed:lower() ~= jid.node(room.jid) then
		session.send(st.error_reply(event.stanza, "cancel", "not-allowed", "Room and token mismatched"));
		return true;
	end
end, 99);
