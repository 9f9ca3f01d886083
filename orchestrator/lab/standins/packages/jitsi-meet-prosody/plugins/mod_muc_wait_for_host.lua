-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_muc_wait_for_host.lua: guests wait in the lobby until somebody authenticated is there.
local jid = require "util.jid";

-- A host is whoever logged in to a virtual host that does not let everybody in.
local function is_host(from)
	local host = prosody.hosts[jid.host(from)];
	local provider = host and module:context(jid.host(from)):get_option_string("authentication", "");
	return provider ~= "anonymous" and provider ~= "jitsi-anonymous";
end

local function has_host(room)
	for _, occupant in room:each_occupant() do
		if jid.resource(occupant.nick) ~= "focus" and is_host(occupant.bare_jid) then return true; end
	end
	return false;
end

module:hook("muc-occupant-pre-join", function(event)
	local room, from = event.room, event.stanza.attr.from;
	if jid.resource(event.occupant.nick) == "focus" then return; end
	if is_host(from) then
		room:set_affiliation(true, jid.bare(from), "owner");
	elseif not has_host(room) and not room._data.waits_for_host then
		room._data.waits_for_host = true;
		prosody.events.fire_event("create-persistent-lobby-room", { room = room });
	end
end, 10);

module:hook("muc-occupant-joined", function(event)
	local room = event.room;
	if room._data.waits_for_host and has_host(room) then
		room._data.waits_for_host = nil;
		prosody.events.fire_event("destroy-lobby-room", { room = room });
	end
end);
