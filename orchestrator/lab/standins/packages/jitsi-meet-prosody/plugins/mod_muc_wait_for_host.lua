-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_muc_wait_for_host.lua: guests wait in the lobby until somebody with a token,
-- or with an account of the main domain, is there. By default every such person becomes owner, whatever the token says.
local jid = require "util.jid";

local base = module:get_option_string("muc_mapper_domain_base");
if not base then
	module:log("warn", "no muc_mapper_domain_base, the module is off");
	return;
end
local focus = module:get_option_set("admins", {});

local function is_host(session, bare)
	return session.auth_token or (session.username and jid.host(bare) == base);
end

if not module:get_option_boolean("wait_for_host_disable_auto_owners", false) then
	module:hook("muc-occupant-joined", function(event)
		if not focus:contains(event.occupant.bare_jid) and is_host(event.origin, event.occupant.bare_jid) then
			event.room:set_affiliation(true, event.occupant.bare_jid, "owner");
		end
	end, 2);
end

module:hook("muc-occupant-pre-join", function(event)
	local room, occupant = event.room, event.occupant;
	if focus:contains(occupant.bare_jid) or room.has_host then return; end
	for _, other in room:each_occupant() do
		room.has_host = room.has_host or jid.host(other.bare_jid) == base;
	end
	if room.has_host then return; end
	if is_host(event.origin, occupant.bare_jid) then
		room:set_members_only(false);
		room:set_persistent(false);
		occupant.role = room:get_default_role(room:get_affiliation(occupant.bare_jid)) or "participant";
		prosody.events.fire_event("destroy-lobby-room", { room = room, newjid = room.jid, message = "Host arrived." });
	elseif not room:get_members_only() then
		prosody.events.fire_event("create-persistent-lobby-room",
			{ room = room, reason = "waiting-for-host", skip_display_name_check = true });
	end
end);
