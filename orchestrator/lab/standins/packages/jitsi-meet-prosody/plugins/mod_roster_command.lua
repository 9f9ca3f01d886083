-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_roster_command.lua: the stand-in's client_proxy needs no roster, so this only answers.
function module.command(arg)
	print("stand-in: nothing to do for " .. table.concat(arg or {}, " "));
	return 0;
end
