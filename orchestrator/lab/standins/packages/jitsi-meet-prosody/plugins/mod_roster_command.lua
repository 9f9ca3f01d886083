-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_roster_command.lua: really lets a component see an account; no other verb.
local jid = require "util.jid";

function module.command(arg)
	if arg[1] ~= "subscribe" or not arg[3] then
		print("subscribe COMPONENT ACCOUNT is what this stand-in knows");
		return 1;
	end
	prosody.bare_sessions = prosody.bare_sessions or {};
	_G.bare_sessions = _G.bare_sessions or prosody.bare_sessions;
	local user, host = jid.split(arg[3]);
	require "core.storagemanager".initialize_host(host);
	require "core.usermanager".initialize_host(host);
	local rosters = require "core.rostermanager";
	local roster = rosters.load_roster(user, host);
	roster[arg[2]] = { subscription = "from", groups = {} };
	rosters.save_roster(user, host, roster);
	return 0;
end
