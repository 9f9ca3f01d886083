-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_token_verification.lua: a token opens only the room that it names. With
-- upstream's default, enable_domain_verification, who has no token enters no room at all (token/util.lib.lua verify_room).
local jid = require "util.jid";
local st = require "util.stanza";

local main = module:context(module.host:match("^[^.]+%.(.+)$"));
local strict = main:get_option_boolean("enable_domain_verification", true);
local allow_empty = main:get_option_boolean("allow_empty_token", false);
local admins = module:get_option_set("admins", {});

module:hook("muc-occupant-pre-join", function(event)
	local session, room = event.origin, event.room;
	if admins:contains(jid.bare(event.stanza.attr.from)) then return; end
	local claimed = session.jitsi_meet_room;
	local fits = claimed and (claimed == "*" or claimed:lower() == jid.node(room.jid));
	if not claimed then fits = not strict or (allow_empty and not session.auth_token); end
	if fits then return; end
	module:log("error", "Token %s not allowed to join: %s", tostring(session.auth_token), event.stanza.attr.to);
	session.send(st.error_reply(event.stanza, "cancel", "not-allowed", "Room and token mismatched"));
	return true;
end, 99);
