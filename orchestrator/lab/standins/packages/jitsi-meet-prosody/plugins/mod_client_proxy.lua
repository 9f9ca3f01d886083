-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_client_proxy.lua: really forwards IQs to the focus account and its answers back.
local jid = require "util.jid";
local st = require "util.stanza";
local random_id = require "util.id".medium;

if module:get_host_type() ~= "component" then
	error("client_proxy is a component");
end
local target = assert(module:get_option_string("target_address"), "target_address is needed");
local waiting = {};

local function target_jid()
	local user = prosody.bare_sessions[target];
	for _, session in pairs(user and user.sessions or {}) do
		if session.presence then return session.full_jid; end
	end
	return nil;
end

module:hook("iq/host", function(event)
	local stanza = event.stanza;
	if stanza.attr.type ~= "get" and stanza.attr.type ~= "set" then return; end
	local to = target_jid();
	if not to then
		event.origin.send(st.error_reply(stanza, "cancel", "service-unavailable", "the focus is not here"));
		return true;
	end
	local token = random_id();
	waiting[token] = { from = stanza.attr.from, id = stanza.attr.id };
	local copy = st.clone(stanza);
	copy.attr.to, copy.attr.from, copy.attr.id = to, module.host .. "/" .. token, token;
	for child in copy:childtags("conference") do
		child.attr.requester = stanza.attr.from;
	end
	module:send(copy);
	module:add_timer(30, function() waiting[token] = nil; end);
	return true;
end, 10);

local function back(event)
	local stanza = event.stanza;
	local token = jid.resource(stanza.attr.to);
	local asked = token and waiting[token];
	if not asked then return; end
	waiting[token] = nil;
	local copy = st.clone(stanza);
	copy.attr.to, copy.attr.from, copy.attr.id = asked.from, module.host, asked.id;
	module:send(copy);
	return true;
end
module:hook("iq/full", back, 10);
