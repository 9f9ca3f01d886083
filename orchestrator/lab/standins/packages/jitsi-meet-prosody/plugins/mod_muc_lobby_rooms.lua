-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_muc_lobby_rooms.lua: a members-only room sends strangers to its lobby room,
-- where they see nobody and only moderators see them. As upstream's it belongs to one virtual host (jitsi-meet issue 8173): loaded
-- twice, its hooks run twice.
local jid = require "util.jid";
local st = require "util.stanza";

local MUC = "http://jabber.org/protocol/muc";
local MEET = "http://jitsi.org/jitmeet";
local main_muc = module:get_option_string("main_muc");
local lobby_muc = module:get_option_string("lobby_muc");
if not main_muc or not lobby_muc then
	module:log("error", "lobby not enabled, main_muc and lobby_muc are needed");
	return;
end
local whitelist = module:get_option_set("muc_lobby_whitelist", {});

local function muc_of(host)
	return prosody.hosts[host] and prosody.hosts[host].modules.muc;
end

local function main_room_of(lobby)
	return lobby.main_room_jid and muc_of(main_muc).get_room_from_jid(lobby.main_room_jid);
end

local function open_lobby(room)
	local address = jid.join(jid.node(room.jid), lobby_muc);
	if muc_of(lobby_muc).get_room_from_jid(address) then return false; end
	local lobby = muc_of(lobby_muc).create_room(address);
	lobby:set_persistent(true);
	lobby.main_room_jid = room.jid;
	room._data.lobbyroom = address;
	return true;
end

local function close_lobby(room, newjid, message)
	local lobby = room._data.lobbyroom and muc_of(lobby_muc).get_room_from_jid(room._data.lobbyroom);
	if lobby then
		lobby:set_persistent(false);
		lobby:destroy(newjid, message or "Lobby room closed.");
	end
	room._data.lobbyroom, room._data.lobby_extra_reason, room._data.lobby_skip_display_name_check = nil, nil, nil;
end

local function tell_settings_changed(room)
	room:broadcast_message(st.message({ type = "groupchat", from = room.jid })
		:tag("x", { xmlns = MUC .. "#user" }):tag("status", { code = "104" }));
end

-- Who is there already stays, as a member.
module:hook_global("create-lobby-room", function(event)
	local room = event.room;
	for _, occupant in room:each_occupant() do
		local affiliation = room:get_affiliation(occupant.bare_jid);
		if not affiliation or affiliation == "none" then
			room:set_affiliation(true, occupant.bare_jid, "member");
		end
	end
	room:set_members_only(true);
	room._data.lobby_extra_reason = event.reason;
	room._data.lobby_skip_display_name_check = event.skip_display_name_check;
	tell_settings_changed(room);
	open_lobby(room);
end);
module:hook_global("destroy-lobby-room", function(event)
	close_lobby(event.room, event.newjid, event.message);
	tell_settings_changed(event.room);
end);

local function knock(event)
	local room, stanza, occupant = event.room, event.stanza, event.occupant;
	local join = stanza:get_child("x", MUC);
	if not join or not room:get_members_only() or jid.resource(occupant.nick) == "focus" then return; end
	local bare = jid.bare(stanza.attr.from);
	local affiliation = room:get_affiliation(bare) or "none";
	local password = room:get_password();
	local knows = password and join:get_child_text("password", MUC) == password;
	if whitelist:contains(jid.host(bare)) or whitelist:contains(bare) or knows then
		if affiliation == "none" or affiliation == "member" then
			occupant.role = "participant";
			room:set_affiliation(true, bare, "member");
		end
		return;
	end
	local name = stanza:get_child_text("nick", "http://jabber.org/protocol/nick");
	if (not name or name == "") and not room._data.lobby_skip_display_name_check then
		event.origin.send(st.error_reply(stanza, "modify", "not-acceptable")
			:tag("displayname-required", { xmlns = MEET, lobby = "true" }));
		return true;
	end
	if affiliation ~= "none" then return; end
	local reply = st.error_reply(stanza, "auth", "registration-required");
	if room._data.lobby_extra_reason then
		reply:tag(room._data.lobby_extra_reason, { xmlns = MEET }):up();
	end
	-- A members-only room that nobody gave a lobby has none to name: its guests can only go away.
	reply:tag("lobbyroom", { xmlns = MEET }):text(room._data.lobbyroom or ""):up();
	event.origin.send(reply);
	return true;
end

-- Moderators see who waits; who waits sees nobody but oneself.
local function filter(stanza)
	local from = stanza.attr and stanza.attr.from;
	if not from or jid.host(from) ~= lobby_muc or stanza.name ~= "presence" or stanza.attr.type then return stanza; end
	local x = stanza:get_child("x", MUC .. "#user");
	local lobby = x and muc_of(lobby_muc).get_room_from_jid(jid.bare(from));
	local room = lobby and main_room_of(lobby);
	if not room then return stanza; end
	for status in x:childtags("status") do
		if status.attr.code == "110" then return stanza; end
	end
	local item = x:get_child("item");
	local watcher = room:get_affiliation(stanza.attr.to) == "owner";
	local waiting = room:get_affiliation(item and item.attr.jid or from) ~= "owner";
	return watcher and waiting and stanza or nil;
end

local function attach_main(muc)
	muc:hook("muc-occupant-pre-join", knock, -4);
	muc:hook("muc-room-destroyed", function(event) close_lobby(event.room); end, 1);
	muc:hook("muc-config-submitted", function(event)
		if jid.node(event.actor) == "focus" then return; end
		if event.fields["muc#roomconfig_membersonly"] then
			if open_lobby(event.room) then event.status_codes["104"] = true; end
		elseif event.room._data.lobbyroom then
			close_lobby(event.room);
		end
	end);
	muc:hook("muc-disco#info", function(event)
		if event.room._data.lobbyroom and event.room:get_members_only() then
			table.insert(event.form, { name = "muc#roominfo_lobbyroom", label = "Lobby room jid", value = "" });
			event.formdata["muc#roominfo_lobbyroom"] = event.room._data.lobbyroom;
		end
	end);
end

-- Who is a moderator of the meeting is one of its lobby.
local function attach_lobby(muc)
	muc_of(lobby_muc).room_mt.get_affiliation = function(lobby, address)
		local room = main_room_of(lobby);
		return room and room:get_affiliation(address) or "none";
	end
	module:add_identity("component", "lobbyrooms", lobby_muc);
	local filters = require "util.filters";
	filters.add_filter_hook(function(session) filters.add_filter(session, "stanzas/out", filter, -1); end);
	module:log("debug", "lobby at %s", muc.host);
end

for host, attach in pairs { [main_muc] = attach_main, [lobby_muc] = attach_lobby } do
	if muc_of(host) then
		attach(module:context(host));
	else
		prosody.events.add_handler("host-activated", function(name)
			if name ~= host then return; end
			if muc_of(host) then
				attach(module:context(host));
			else
				prosody.hosts[host].events.add_handler("module-loaded", function(event)
					if event.module == "muc" then attach(module:context(host)); end
				end);
			end
		end);
	end
end
