-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_muc_password_whitelist.lua: whitelisted domains need no room password.
local jid = require "util.jid";
local whitelist = module:get_option_set("muc_password_whitelist", {});
module:hook("muc-occupant-pre-join", function(event)
	local room, stanza = event.room, event.stanza;
	if room:get_password() and whitelist:contains(jid.bare(stanza.attr.from)) then
		local join = stanza:get_child("x", "http://jabber.org/protocol/muc");
		if join then join:tag("password", { xmlns = "http://jabber.org/protocol/muc" }):text(room:get_password()); end
	end
end, -7);
