-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_auth_jitsi-anonymous.lua: really does anonymous logins. A token that
-- somebody brings along is worth nothing here.
local new_sasl = require "util.sasl".new;
local generate_uuid = require "util.uuid".generate;

local provider = {};
function provider.test_password() return nil, "anonymous only"; end
function provider.get_password() return nil, "anonymous only"; end
function provider.set_password() return nil, "anonymous only"; end
function provider.user_exists() return true; end
function provider.users() return function() return nil; end; end
function provider.create_user() return nil, "anonymous only"; end
function provider.delete_user() return nil, "anonymous only"; end
function provider.get_sasl_handler(session)
	session.auth_token = nil;
	return new_sasl(module.host, {
		anonymous = function() return generate_uuid(), true; end;
	});
end

module:provides("auth", provider);
