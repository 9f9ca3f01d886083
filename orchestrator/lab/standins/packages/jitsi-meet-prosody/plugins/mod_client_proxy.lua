-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_client_proxy.lua: really forwards IQs to the focus account and its answers
-- back. As upstream's it hides the sender's address in the resource of its own (jicofo:jicofo-common xmpp/Util.kt unpacks it).
local jid = require "util.jid";
local st = require "util.stanza";

if module:get_host_type() ~= "component" then
	error("client_proxy is a component");
end
local target = assert(module:get_option_string("target_address"), "target_address is needed");

local function target_jid()
	local user = prosody.bare_sessions[target];
	for _, session in pairs(user and user.sessions or {}) do
		if session.presence then return session.full_jid; end
	end
	return nil;
end

local function forward(event, stanza)
	local to = target_jid();
	if not to then
		event.origin.send(st.error_reply(stanza, "cancel", "service-unavailable"));
		return true;
	end
	local copy = st.clone(stanza);
	copy.attr.to, copy.attr.from = to, module.host .. "/" .. stanza.attr.from;
	module:send(copy);
	return true;
end

local function back(stanza, asked)
	local copy = st.clone(stanza);
	copy.attr.to, copy.attr.from = asked, module.host;
	module:send(copy);
	return true;
end

-- An address without a user is a host's for Prosody, with a resource too.
module:hook("iq/host", function(event)
	local stanza = event.stanza;
	local asked = jid.resource(stanza.attr.to);
	if stanza.attr.type == "get" or stanza.attr.type == "set" then
		return forward(event, stanza);
	elseif asked and jid.bare(stanza.attr.from) == target then
		return back(stanza, asked);
	end
end, -1);
