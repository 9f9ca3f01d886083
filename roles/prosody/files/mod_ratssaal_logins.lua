-- Kept by Ratssaal (role prosody). Loaded on the members' host; bounds how often passwords can be guessed.
--
-- Prosody itself lets a client try without end (prosody: mod_saslauth). Wrong passwords are counted by address and account, so that
-- nobody can lock a member out from elsewhere, and a whole town hall behind one address is not punished for a colleague's typing;
-- a second, wider count by address alone ends guessing through many names. Counts are kept in memory and forgotten in minutes.
local st = require "util.stanza";
local base64 = require "util.encodings".base64;
local cache = require "util.cache";
local new_ip = require "util.ip".new_ip;
local throttle = require "util.throttle";

local SASL = "urn:ietf:params:xml:ns:xmpp-sasl";
local PERIOD = 300;
local each = { max = module:get_option_number("ratssaal_wrong_passwords", 5), known = cache.new(10000) };
local all = { max = module:get_option_number("ratssaal_wrong_passwords_of_an_address", 100), known = cache.new(10000) };

-- Whoever has one IPv6 address has all of its network.
local function network(session)
	local address = session.ip and new_ip(session.ip);
	if not address then return "unknown"; end
	return address.proto == "IPv6" and address.packed:sub(1, 8) or address.packed;
end

-- PLAIN: authzid NUL authcid NUL password (RFC 4616); SCRAM: gs2 header, then n=name (RFC 5802).
local function name_of(stanza)
	local text = base64.decode(stanza[1] or "") or "";
	return text:match("^[^%z]*%z([^%z]*)%z") or text:match("^[^,]*,[^,]*,n=([^,]*)") or "";
end

local function count(kind, key)
	local found = kind.known:get(key);
	if not found then
		found = throttle.create(kind.max, PERIOD);
		kind.known:set(key, found);
	end
	return found;
end

-- Before Prosody's own handler (0).
module:hook("stanza/" .. SASL .. ":auth", function(event)
	local session = event.origin;
	local place = network(session);
	local key = place .. "\0" .. name_of(event.stanza):lower();
	session.ratssaal_login = { key, place };
	if count(each, key):peek(1) and count(all, place):peek(1) then return; end
	session.send(st.stanza("failure", { xmlns = SASL }):tag("temporary-auth-failure"):up()
		:text_tag("text", "Too many wrong passwords; try again in some minutes."));
	return true;
end, 10);

module:hook("authentication-failure", function(event)
	local keys = event.session.ratssaal_login;
	if not keys then return; end
	count(each, keys[1]):poll(1);
	count(all, keys[2]):poll(1);
end);
