-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_speakerstats_component.lua: an empty component, so that its address exists.
if module:get_host_type() ~= "component" then
	error("speakerstats_component is a component");
end
