-- Stand-in of jitsi-meet:resources/prosody-plugins/mod_auth_token.lua: really checks tokens, HS256 ones with app_secret, or
-- RS256 ones with the keys that cache_keys_url publishes (JWKS); never both, as upstream.
-- jitsi-meet:resources/prosody-plugins/token/util.lib.lua and luajwtjitsi.lib.lua want these; without one nobody logs in.
for _, library in ipairs { "basexx", "inspect", "ssl", "cjson.safe", "openssl.pkey", "openssl.digest", "openssl.hmac" } do
	require(library);
end
local sasl = require "util.sasl";
local new_sasl = sasl.new;
local generate_uuid = require "util.uuid".generate;
local hashes = require "util.hashes";
local base64 = require "util.encodings".base64;
local json = require "util.json";
local formdecode = require "util.http".formdecode;
local http = require "net.http";
local timer = require "util.timer";
local pkey = require "openssl.pkey";
local digest = require "openssl.digest";

local app_id = module:get_option_string("app_id");
local app_secret = module:get_option_string("app_secret");
local issuers = module:get_option_array("asap_accepted_issuers", { app_id });
local audiences = module:get_option_array("asap_accepted_audiences", { "*" });
local allow_empty = module:get_option_boolean("allow_empty_token", false);
local keys_url = module:get_option_string("cache_keys_url");
local key_server = module:get_option_string("asap_key_server");
if not app_secret and not keys_url then
	module:log("error", "neither app_secret nor cache_keys_url; every login will be refused");
end

local function unpack64(text)
	text = text:gsub("-", "+"):gsub("_", "/");
	return base64.decode(text .. ("="):rep((4 - #text % 4) % 4));
end

local function der(tag, content)
	local n = #content;
	local long = n < 256 and string.char(129, n) or string.char(130, math.floor(n / 256), n % 256);
	return string.char(tag) .. (n < 128 and string.char(n) or long) .. content;
end

local function integer(bytes)
	return der(2, (bytes:byte(1) >= 128 and "\0" or "") .. bytes);
end

-- A public RSA key of a JWKS as OpenSSL reads it (RFC 5280 4.1.2.7, RFC 8017 A.1.1).
local function rsa_key(n, e)
	local algorithm = der(48, "\6\9\42\134\72\134\247\13\1\1\1\5\0");
	local info = der(48, algorithm .. der(3, "\0" .. der(48, integer(n) .. integer(e))));
	return pkey.new("-----BEGIN PUBLIC KEY-----\n" .. base64.encode(info):gsub(("."):rep(64), "%0\n") .. "\n-----END PUBLIC KEY-----\n");
end

local keys = {};

local function read_keys(body)
	local found = {};
	for _, key in ipairs(json.decode(body).keys) do
		if key.kty == "RSA" and key.kid then
			found[key.kid] = rsa_key(unpack64(key.n), unpack64(key.e));
		end
	end
	keys = found;
end

local function load_keys()
	http.request(keys_url, nil, function (body, code)
		local good, why = code == 200, body;
		if good then good, why = pcall(read_keys, body); end
		if not good then module:log("warn", "no keys from %s: %s %s", keys_url, code, why); end
		timer.add_task(good and 3600 or 5, load_keys);
	end);
end
if keys_url then load_keys(); end

-- Upstream looks for an unknown key at the key server, and fails in the middle of the log-in where it has no address for that
-- (token/util.lib.lua get_public_key); here nobody has keys for it.
local function looked_for(kid)
	module:log("debug", "no key at %s", key_server .. "/" .. hashes.sha256(kid, true) .. ".pem");
end

local function signed(header, text, signature)
	if keys_url then
		local key = header.alg == "RS256" and header.kid and (keys[header.kid] or looked_for(header.kid));
		return key and signature and key:verify(signature, digest.new("sha256"):update(text));
	end
	return header.alg == "HS256" and hashes.hmac_sha256(app_secret, text) == signature;
end

local function accepted(list, value)
	for _, entry in ipairs(list) do
		if entry == "*" or entry == value then return true; end
	end
	return false;
end

local function verify(token)
	local head, body, signature = token:match("^([%w_-]+)%.([%w_-]+)%.([%w_-]+)$");
	if not head or not (app_secret or keys_url) then return nil, "no usable token"; end
	local header = json.decode(unpack64(head) or "") or {};
	if not signed(header, head .. "." .. body, unpack64(signature)) then return nil, "wrong signature"; end
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
