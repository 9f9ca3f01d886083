-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_auth_token.lua: really checks HS256 tokens; JWKS it does not know and refuses.
local sasl = require "util.sasl";
local new_sasl = sasl.new;
local generate_uuid = require "util.uuid".generate;
local hashes = require "util.hashes";
local base64 = require "util.encodings".base64;
local json = require "util.json";
local formdecode = require "util.http".formdecode;

local app_id = module:get_option_string("app_id");
local app_secret = module:get_option_string("app_secret");
local issuers = module:get_option_array("asap_accepted_issuers", { app_id });
local audiences = module:get_option_array("asap_accepted_audiences", { "*" });
local allow_empty = module:get_option_boolean("allow_empty_token", false);
if not app_secret then
	module:log("error", "this stand-in checks tokens with app_secret only; every login will be refused");
end

local function unpack64(text)
	text = text:gsub("-", "+"):gsub("_", "/");
	return base64.decode(text .. ("="):rep((4 - #text % 4) % 4));
end

local function accepted(list, value)
	for _, entry in ipairs(list) do
		if entry == "*" or entry == value then return true; end
	end
	return false;
end

local function verify(token)
	local head, body, signature = token:match("^([%w_-]+)%.([%w_-]+)%.([%w_-]+)$");
	if not head or not app_secret then return nil, "no usable token"; end
	local header = json.decode(unpack64(head) or "") or {};
	if header.alg ~= "HS256" then return nil, "algorithm not accepted"; end
	if hashes.hmac_sha256(app_secret, head .. "." .. body) ~= unpack64(signature) then return nil, "wrong signature"; end
	local claims = json.decode(unpack64(body) or "") or {};
	if not claims.exp or claims.exp < os.time() then return nil, "expired"; end
	if not accepted(issuers, claims.iss) then return nil, "issuer not accepted"; end
	if not accepted(audiences, claims.aud) then return nil, "audience not accepted"; end
	if not claims.room then return nil, "no room claim"; end
	return claims;
end

local function remember(event)
	local session, request = event.session, event.request;
	local query = request and request.url and request.url.query;
	local fields = query and formdecode(query) or {};
	session.auth_token = fields.token;
end
module:hook_global("bosh-session", remember);
module:hook_global("websocket-session", remember);

local provider = {};
function provider.test_password() return nil, "tokens only"; end
function provider.get_password() return nil, "tokens only"; end
function provider.set_password() return nil, "tokens only"; end
function provider.user_exists() return true; end
function provider.users() return function() return nil; end; end
function provider.create_user() return nil, "tokens only"; end
function provider.delete_user() return nil, "tokens only"; end
function provider.get_sasl_handler(session)
	return new_sasl(module.host, {
		anonymous = function()
			if not session.auth_token and allow_empty then
				return generate_uuid();
			end
			local claims, why = verify(session.auth_token or "");
			if not claims then
				module:log("warn", "token refused: %s", why);
				return false, "not-allowed", why;
			end
			session.jitsi_meet_room = claims.room;
			session.jitsi_meet_context_user = claims.context and claims.context.user;
			return generate_uuid();
		end;
	});
end

-- Prosody's own mechanism lets everybody in and asks only for a name, so upstream registers one that can refuse
-- (jitsi-meet:resources/prosody-plugins/mod_auth_token.lua); it serves mod_auth_jitsi-anonymous, too.
sasl.registerMechanism("ANONYMOUS", { "anonymous" }, function (self)
	local username, condition, text = self.profile.anonymous(self, nil, self.realm);
	if not username then return "failure", condition, text; end
	self.username = username;
	return "success";
end);

module:provides("auth", provider);
