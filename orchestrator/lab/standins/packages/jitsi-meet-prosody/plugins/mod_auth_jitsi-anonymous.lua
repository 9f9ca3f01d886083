-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_auth_jitsi-anonymous.lua: really does anonymous logins.
local new_sasl = require "util.sasl".new;
local random_id = require "util.id".medium;

local provider = {};
function provider.test_password() return nil, "anonymous only"; end
function provider.get_password() return nil, "anonymous only"; end
function provider.set_password() return nil, "anonymous only"; end
function provider.user_exists() return true; end
function provider.users() return function() return nil; end; end
function provider.create_user() return nil, "anonymous only"; end
function provider.delete_user() return nil, "anonymous only"; end
function provider.get_sasl_handler()
	return new_sasl(module.host, {
		anonymous = function() return random_id():lower(), true; end;
	});
end

module:provides("auth", provider);
