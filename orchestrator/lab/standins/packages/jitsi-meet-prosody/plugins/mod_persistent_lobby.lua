-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_persistent_lobby.lua: a room whose lobby somebody waits in outlives its last
-- occupant; when both are empty, both go.
local jid = require "util.jid";

local main_muc = module:get_option_string("main_muc");
local lobby_muc = module:get_option_string("lobby_muc");
if not main_muc or not lobby_muc then
	module:log("error", "main_muc and lobby_muc are needed");
	return;
end

module:hook_global("create-persistent-lobby-room", function(event)
	prosody.events.fire_event("create-lobby-room", event);
	event.room._data.persist_lobby = true;
	event.room:set_persistent(true);
end);

local function destroy_if_empty(room)
	local muc = prosody.hosts[lobby_muc].modules.muc;
	local lobby = room._data.lobbyroom and muc.get_room_from_jid(room._data.lobbyroom);
	if room._data.persist_lobby and not room.destroying and not room:has_occupant() and not (lobby and lobby:has_occupant()) then
		room:set_persistent(false);
		room:destroy(nil, "main room and lobby now empty");
	end
end

local function attach(host)
	module:context(host):hook("muc-occupant-left", function(event)
		local room = event.room;
		if host == lobby_muc then
			room = prosody.hosts[main_muc].modules.muc.get_room_from_jid(jid.join(jid.node(room.jid), main_muc));
		end
		if room then destroy_if_empty(room); end
	end);
end

for _, host in ipairs { main_muc, lobby_muc } do
	if prosody.hosts[host] then
		attach(host);
	else
		prosody.events.add_handler("host-activated", function(name)
			if name == host then attach(host); end
		end);
	end
end
