-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_end_conference.lua: an empty component, so that its address exists.
if module:get_host_type() ~= "component" then
	error("end_conference is a component");
end
