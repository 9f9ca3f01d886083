-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_av_moderation_component.lua: an empty component, so that its address exists.
if module:get_host_type() ~= "component" then
	error("av_moderation_component is a component");
end
