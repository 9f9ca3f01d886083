-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_muc_lobby_rooms.lua: a members-only room sends strangers to its lobby room.
local jid = require "util.jid";
local st = require "util.stanza";

local main_muc = module:get_option_string("main_muc");
local lobby_muc = module:get_option_string("lobby_muc");
local whitelist = module:get_option_set("muc_lobby_whitelist", {});
if not main_muc or not lobby_muc then
	module:log("warn", "main_muc and lobby_muc are needed; the lobby is off");
	return;
end

local function lobby_component()
	local host = prosody.hosts[lobby_muc];
	return host and host.modules.muc;
end

local function open_lobby(room)
	local muc = lobby_component();
	local address = jid.join(jid.node(room.jid), lobby_muc);
	if muc and not muc.get_room_from_jid(address) then
		muc.create_room(address);
	end
	room._data.lobbyroom = address;
	return address;
end

local function close_lobby(room)
	local muc = lobby_component();
	local lobby = muc and room._data.lobbyroom and muc.get_room_from_jid(room._data.lobbyroom);
	room._data.lobbyroom = nil;
	if lobby then
		lobby:destroy(room.jid, "Lobby room closed.");
	end
end

-- Other modules of ours open and close it through these events, as upstream's persistent_lobby does.
module:hook_global("create-persistent-lobby-room", function(event)
	event.room:set_members_only(true);
	open_lobby(event.room);
end);
module:hook_global("destroy-lobby-room", function(event)
	event.room:set_members_only(false);
	close_lobby(event.room);
end);

local function attach(host)
	local muc = module:context(host);
	muc:hook("muc-occupant-pre-join", function(event)
		local room, stanza = event.room, event.stanza;
		local from = jid.bare(stanza.attr.from);
		if not room:get_members_only() or whitelist:contains(jid.host(from)) then return; end
		local affiliation = room:get_affiliation(from);
		if affiliation and affiliation ~= "none" then return; end
		local reply = st.error_reply(stanza, "auth", "registration-required")
			:tag("lobbyroom", { xmlns = "http://jitsi.org/jitmeet" }):text(open_lobby(room));
		event.origin.send(reply);
		return true;
	end, -4);
	muc:hook("muc-room-destroyed", function(event) close_lobby(event.room); end);
	muc:hook("muc-config-submitted/muc#roomconfig_membersonly", function(event)
		if event.value then open_lobby(event.room); else close_lobby(event.room); end
	end);
end

if prosody.hosts[main_muc] then
	attach(main_muc);
else
	module:hook_global("host-activated", function(host)
		if host == main_muc then attach(host); end
	end);
end
