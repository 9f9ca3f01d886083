-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_client_proxy.lua: really forwards IQs to the focus account and its answers back.
-- As upstream it knows of the focus by its presence alone, which takes a subscription in the account's roster; and it hides the
-- asker's address in the resource of its own (jicofo:jicofo-common xmpp/Util.kt unpacks it).
local jid = require "util.jid";
local st = require "util.stanza";

if module:get_host_type() ~= "component" then
	error("client_proxy is a component");
end
local target = assert(module:get_option_string("target_address"), "target_address is needed");
local resources = {};

module:hook("presence/host", function(event)
	local stanza = event.stanza;
	if jid.bare(stanza.attr.from) ~= target then return; end
	local resource = jid.resource(stanza.attr.from);
	if resource and not stanza.attr.type then
		resources[resource] = true;
	elseif resource then
		resources[resource] = nil;
	end
	return true;
end, 10);

-- The asker's address travels in the resource, there and back.
module:hook("iq/host", function(event)
	local stanza = event.stanza;
	if jid.bare(stanza.attr.from) == target then
		local copy = st.clone(stanza);
		copy.attr.to, copy.attr.from = jid.resource(stanza.attr.to), module.host;
		module:send(copy);
		return true;
	end
	if stanza.attr.type ~= "get" and stanza.attr.type ~= "set" then return; end
	local resource = next(resources);
	if not resource then
		event.origin.send(st.error_reply(stanza, "cancel", "service-unavailable", "the focus is not here"));
		return true;
	end
	local copy = st.clone(stanza);
	copy.attr.to, copy.attr.from = target .. "/" .. resource, module.host .. "/" .. stanza.attr.from;
	module:send(copy);
	return true;
end, -1);

module:send(st.presence({ type = "subscribe", to = target, from = module.host }));
