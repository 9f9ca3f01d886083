-- Kept by Ratssaal (role prosody). Loaded on the main MUC; says who is a moderator and gives every room a lobby from its start.
--
-- Upstream's own modules leave two gaps that this one closes:
--  * A room that is members-only from its creation has no lobby for its guests to wait in, and with one nobody could ever get in:
--    a host is made owner by Jicofo only after joining (jicofo: ChatRoomRoleManager.kt). Hosts are therefore recognised when they
--    come: by an account of the main domain, by Jicofo's own word, or by their token's claim.
--  * mod_muc_wait_for_host makes every holder of a token owner (wait_for_host_disable_auto_owners); here a claim is needed.
local jid = require "util.jid";
local cache = require "util.cache";

local FOCUS = "http://jitsi.org/protocol/focus";
local base = assert(module:get_option_string("muc_mapper_domain_base"), "muc_mapper_domain_base is needed");
local by_claim = module:get_option_boolean("ratssaal_moderators_by_claim", false);
local lobby_always = module:get_option_boolean("ratssaal_lobby_always", false);
local admins = module:get_option_set("admins", {});
-- Addresses to which Jicofo gave a session. Each is used by one connection only, so the oldest may be forgotten.
local authenticated = cache.new(10000);

local function healthcheck(room)
	return jid.node(room.jid):find("__jicofo-health-check", 1, true) == 1;
end

-- The same claims as jitsi-meet: mod_token_affiliation.lua.
local function claims_it(user)
	if not user then return false; end
	local affiliation = user.affiliation;
	return affiliation == "owner" or affiliation == "moderator" or affiliation == "teacher"
		or user.moderator == true or user.moderator == "true";
end

local function moderates(session, address)
	if by_claim then
		return session.auth_token and claims_it(session.jitsi_meet_context_user);
	end
	return jid.host(address) == base or authenticated:get(address) ~= nil;
end

-- Before the lobby (-4) and members-only rooms (-5) turn away who has no affiliation.
module:hook("muc-occupant-pre-join", function(event)
	local room, occupant, address = event.room, event.occupant, event.stanza.attr.from;
	if healthcheck(room) or admins:contains(jid.bare(address)) or not moderates(event.origin, address) then return; end
	room:set_affiliation(true, jid.bare(address), "owner");
	occupant.role = "moderator";
end, -3);

-- Before upstream's check of the room (99), which writes the whole token of somebody whom it refuses into the log
-- (jitsi-meet:resources/prosody-plugins/mod_token_verification.lua). It was verified at log-in; from there on it only counts as one.
local function hide_token(event)
	if event.origin.auth_token then event.origin.auth_token = "verified"; end
end
module:hook("muc-room-pre-create", hide_token, 100);
module:hook("muc-occupant-pre-join", hide_token, 100);

if lobby_always then
	-- After the creation was allowed: a refused one must not leave a lobby behind.
	module:hook("muc-room-created", function(event)
		if not healthcheck(event.room) then
			prosody.events.fire_event("create-persistent-lobby-room", { room = event.room });
		end
	end);
end

-- Jicofo's answer to a host carries a session and passes the focus's proxy with the host's address in its resource, so that it is
-- one to a host for Prosody (jitsi-meet: mod_client_proxy.lua). That is the only trace of a log-in that the web client makes beside its anonymous connection.
local function listen(host)
	module:context(host):hook("iq/host", function(event)
		local stanza = event.stanza;
		local answer = stanza.attr.type == "result" and stanza:get_child("conference", FOCUS);
		if answer and answer.attr["session-id"] and admins:contains(jid.bare(stanza.attr.from)) then
			authenticated:set(jid.resource(stanza.attr.to), true);
		end
	end, 1);
end
if not by_claim then
	local host = "focus." .. base;
	if prosody.hosts[host] then
		listen(host);
	else
		prosody.events.add_handler("host-activated", function(name)
			if name == host then listen(host); end
		end);
	end
end
