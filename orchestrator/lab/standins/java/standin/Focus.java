package standin;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import org.w3c.dom.Element;

/** Stand-in of Jicofo: watches the brewery, opens rooms on request, offers sessions from two participants on. */
public final class Focus {
    // jicofo:jicofo-common, jicofo-selector and jicofo src/main/resources/reference.conf
    private static final String DEFAULTS = """
        jicofo { xmpp.client { hostname = localhost, port = 5222, domain = "", xmpp-domain = "", username = focus, password = "",
                               client-proxy = "", disable-certificate-verification = false, conference-muc-jid = "" }
          bridge { brewery-jid = "" }
          authentication { enabled = false, type = NONE, enable-auto-login = true }
          conference { enable-auto-owner = true, min-participants = 2, initial-timeout = 15 seconds }
          health.enabled = false
          rest { enabled = true, host = 127.0.0.1, port = 8888, conference-request.enabled = true } }
        """;
    private static final Set<String> KNOWN = Set.of(
        "jicofo.xmpp.client.hostname", "jicofo.xmpp.client.port", "jicofo.xmpp.client.domain", "jicofo.xmpp.client.xmpp-domain",
        "jicofo.xmpp.client.username", "jicofo.xmpp.client.password", "jicofo.xmpp.client.client-proxy",
        "jicofo.xmpp.client.use-tls", "jicofo.xmpp.client.disable-certificate-verification", "jicofo.xmpp.trusted-domains",
        "jicofo.xmpp.client.conference-muc-jid", "jicofo.xmpp.client.enabled",
        "jicofo.bridge.brewery-jid", "jicofo.bridge.selection-strategy", "jicofo.bridge.max-bridge-participants",
        "jicofo.bridge.stress-threshold", "jicofo.bridge.health-checks.enabled", "jicofo.bridge.health-checks.interval",
        "jicofo.local-region", "jicofo.octo.enabled", "jicofo.sctp.enabled", "jicofo.authentication.enabled",
        "jicofo.authentication.type", "jicofo.authentication.login-url", "jicofo.authentication.authentication-lifetime",
        "jicofo.authentication.enable-auto-login", "jicofo.conference.enable-auto-owner", "jicofo.conference.min-participants",
        "jicofo.conference.initial-timeout", "jicofo.conference.single-participant-timeout",
        "jicofo.conference.max-audio-senders", "jicofo.conference.max-video-senders", "jicofo.health.enabled",
        "jicofo.rest.enabled", "jicofo.rest.host", "jicofo.rest.port", "jicofo.rest.conference-request.enabled",
        "jicofo.rest.debug.enabled", "jicofo.rest.pin.enabled", "jicofo.rest.move-endpoints.enabled",
        "jicofo.rest.prometheus.enabled", "jicofo.jibri.brewery-jid", "jicofo.jibri-sip.brewery-jid", "jicofo.jigasi.brewery-jid", "jicofo.visitors.enabled");

    /** A room that Jicofo serves. */
    private static final class Room {
        final Map<String, String> occupants = new ConcurrentHashMap<>();
        final Set<String> offered = ConcurrentHashMap.newKeySet();
        final CountDownLatch entered = new CountDownLatch(1);
        volatile boolean owned;
        String bridge;
    }

    private final Settings settings;
    private final Xmpp client;
    private final Authority authority;
    private final ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor(task -> {
        Thread thread = new Thread(task, "clock");
        thread.setDaemon(true);
        return thread;
    });
    private final String version = System.getProperty("standin.version", "1.0");
    private final Map<String, Map<String, String>> bridges = new ConcurrentHashMap<>();
    private final Map<String, Room> rooms = new ConcurrentHashMap<>();

    private Focus(Settings settings) {
        this.settings = settings;
        client = new Xmpp(settings.text("jicofo.xmpp.client.hostname"), settings.number("jicofo.xmpp.client.port"),
                settings.text("jicofo.xmpp.client.domain"), settings.text("jicofo.xmpp.client.username"),
                settings.text("jicofo.xmpp.client.password"),
                !settings.flag("jicofo.xmpp.client.disable-certificate-verification"));
        // JicofoServices.kt createAuthenticationAuthority: without login-url, which names the accounts' domain, Jicofo does not start
        boolean accounts = settings.flag("jicofo.authentication.enabled") && settings.text("jicofo.authentication.type").equals("XMPP");
        authority = accounts ? new Authority(settings.text("jicofo.authentication.login-url")) : null;
    }

    /** Starts Jicofo and never returns. */
    public static void main(String[] words) throws Exception {
        Focus focus = new Focus(Settings.read(DEFAULTS, KNOWN, List.of("jicofo")));
        focus.rest();
        focus.client.onStanza(focus::handle);
        focus.client.run(focus::connected);
        Thread.currentThread().join();
    }

    private void connected() {
        bridges.clear();
        rooms.clear();
        client.send("<presence/>");
        client.send("<presence to='" + Stanzas.escape(settings.text("jicofo.bridge.brewery-jid")) + "/focus'>"
                + "<x xmlns='http://jabber.org/protocol/muc'/></presence>");
    }

    private boolean healthy() {
        return client.isConnected() && operational().stream().findAny().isPresent();
    }

    private List<String> operational() {
        List<String> found = new ArrayList<>();
        bridges.forEach((jid, stats) -> {
            if ("true".equals(stats.get("healthy")) && !"true".equals(stats.get("shutting_down"))) {
                found.add(jid);
            }
        });
        return found;
    }

    private void rest() throws Exception {
        if (!settings.flag("jicofo.rest.enabled")) {
            return;
        }
        Rest rest = new Rest(settings.text("jicofo.rest.host"), settings.number("jicofo.rest.port"));
        rest.on("/about/version", (m, p, b) -> new Rest.Reply(200, Json.write(Map.of("name", "Jicofo", "version", version, "standIn", true))));
        // jicofo:ktor/Application.kt: without jicofo.health.enabled the path does not exist
        if (settings.flag("jicofo.health.enabled")) {
            rest.on("/about/health", (m, p, b) -> new Rest.Reply(healthy() ? 200 : 500, healthy() ? "OK" : "no operational bridge"));
        }
        rest.on("/stats", (m, p, b) -> new Rest.Reply(200, Json.write(stats())));
        rest.on("/debug", (m, p, b) -> new Rest.Reply(200, Json.write(debug())));
        if (settings.flag("jicofo.rest.conference-request.enabled")) {
            rest.on("/conference-request/v1", (method, path, body) -> {
                String room = Json.field(body, "room");
                if (!method.equals("POST") || room == null) {
                    return new Rest.Reply(400, "");
                }
                // jicofo:doc/conference-request.md: no address comes with a request by HTTP, so nobody is authenticated by it.
                boolean ready = refusal(room, "", "", "") == null && conference(room);
                return ready ? new Rest.Reply(200, Json.write(Map.of("ready", true, "room", room, "focusJid",
                        settings.text("jicofo.xmpp.client.client-proxy")))) : new Rest.Reply(403, "");
            });
        }
        rest.start();
    }

    private Map<String, Object> stats() {
        Map<String, Object> selector = new LinkedHashMap<>();
        selector.put("bridge_count", bridges.size());
        selector.put("operational_bridge_count", operational().size());
        selector.put("in_shutdown_bridge_count", bridges.values().stream().filter(b -> "true".equals(b.get("graceful_shutdown"))).count());
        Map<String, Object> stats = new LinkedHashMap<>();
        stats.put("conferences", rooms.size());
        stats.put("participants", rooms.values().stream().mapToInt(room -> room.occupants.size()).sum());
        stats.put("bridge_selector", selector);
        stats.put("healthy", healthy());
        stats.put("version", version);
        return stats;
    }

    private Map<String, Object> debug() {
        Map<String, Object> byJid = new LinkedHashMap<>();
        List<String> operational = operational();
        bridges.forEach((jid, stats) -> byJid.put(jid, Map.of(
                "drain", "true".equals(stats.get("drain")), "graceful-shutdown", "true".equals(stats.get("graceful_shutdown")),
                "healthy", "true".equals(stats.get("healthy")), "operational", operational.contains(jid),
                "stress", stats.getOrDefault("stress_level", "0"), "version", stats.getOrDefault("version", "?"))));
        return Map.of("bridge_selector", Map.of("bridge", byJid, "bridge_count", bridges.size(), "operational_bridge_count",
                operational.size()), "conferences", new ArrayList<>(rooms.keySet()),
                "jibri_detector", detector("jibri"), "sip_jibri_detector", detector("jibri-sip"));
    }

    /** jicofo:jicofo/src/main/kotlin/org/jitsi/jicofo/JicofoServices.kt: the word null where no brewery of recorders is configured. */
    private Object detector(String kind) {
        return settings.has("jicofo." + kind + ".brewery-jid") ? Map.of("count", 0) : "null";
    }

    private void handle(Element stanza) {
        String from = stanza.getAttribute("from");
        String bare = from.contains("/") ? from.substring(0, from.indexOf('/')) : from;
        if (stanza.getLocalName().equals("presence")) {
            if (bare.equalsIgnoreCase(settings.text("jicofo.bridge.brewery-jid"))) {
                bridge(stanza, from);
            } else if (rooms.containsKey(bare)) {
                occupant(stanza, bare, from);
            }
            return;
        }
        if (!stanza.getLocalName().equals("iq")) {
            return;
        }
        Element payload = Stanzas.children(stanza).isEmpty() ? null : Stanzas.children(stanza).get(0);
        String name = payload == null ? "" : payload.getLocalName();
        if (name.equals("conference")) {
            request(stanza, payload);
        } else {
            client.answer(stanza, name.equals("jingle") || name.equals("query") || name.equals("ping") ? "result" : "error", "");
        }
    }

    private void bridge(Element presence, String from) {
        if (presence.getAttribute("type").equals("unavailable")) {
            bridges.remove(from);
            return;
        }
        Element stats = Stanzas.child(presence, "stats");
        if (stats != null) {
            Map<String, String> values = new LinkedHashMap<>();
            Stanzas.children(stats).forEach(stat -> values.put(stat.getAttribute("name"), stat.getAttribute("value")));
            bridges.put(from, values);
        }
    }

    /** ConferenceIqHandler.kt: the focus's proxy puts the sender's address into the resource (mod_client_proxy.lua). */
    private void request(Element iq, Element conference) {
        String room = conference.getAttribute("room").toLowerCase(java.util.Locale.ROOT);
        String proxy = settings.text("jicofo.xmpp.client.client-proxy") + "/";
        String from = iq.getAttribute("from");
        from = from.startsWith(proxy) ? from.substring(proxy.length()) : from;
        String refused = refusal(room, from, conference.getAttribute("machine-uid"), conference.getAttribute("session-id"));
        if (refused != null) {
            client.answer(iq, "error", "<error type='auth'>" + refused + "</error>");
            return;
        }
        boolean ready = conference(room);
        String session = authority == null ? null : authority.session(from);
        client.answer(iq, "result", "<conference xmlns='http://jitsi.org/protocol/focus' room='" + Stanzas.escape(room)
                + "' ready='" + ready + "' focusjid='" + Stanzas.escape(client.jid().replaceAll("/.*", "")) + "'"
                + (session == null ? "" : " session-id='" + session + "' identity='" + Stanzas.escape(authority.identity(from)) + "'") + ">"
                + "<property name='authentication' value='" + (authority != null) + "'/>"
                + (authority == null ? "" : "<property name='externalAuth' value='false'/>") + "</conference>");
    }

    /** With authentication on, only who logged in opens a room; anybody may ask for one that is open. */
    private String refusal(String room, String from, String machine, String session) {
        if (authority == null) {
            return null;
        }
        String refused = authority.process(from, machine, session, room);
        if (refused != null) {
            return refused;
        }
        rooms.forEach((name, served) -> served.occupants.forEach((occupant, jid) -> {
            if (jid.equals(from) && authority.session(jid) != null) {
                own(name, jid);
            }
        }));
        return rooms.containsKey(room) || authority.identity(from) != null ? null
                : "<not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>";
    }

    /** ChatRoomRoleManager.kt: who is authenticated becomes owner; without authentication the first one does, unless that is off. */
    private void roles(String room, Room served, Element presence) {
        Element item = Stanzas.child(Stanzas.child(presence, "x"), "item");
        String jid = item == null ? "" : item.getAttribute("jid");
        if (jid.isEmpty() || item.getAttribute("affiliation").equals("owner")) {
            served.owned |= item != null && item.getAttribute("affiliation").equals("owner");
        } else if (authority != null ? authority.session(jid) != null
                : settings.flag("jicofo.conference.enable-auto-owner") && !served.owned) {
            served.owned = true;
            own(room, jid);
        }
    }

    private void own(String room, String jid) {
        Thread thread = new Thread(() -> client.ask("set", room, "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='owner' jid='"
                + Stanzas.escape(jid.replaceAll("/.*", "")) + "'/></query>"), "owner");
        thread.setDaemon(true);
        thread.start();
    }

    private void leave(String room) {
        rooms.remove(room);
        if (authority != null && !settings.flag("jicofo.authentication.enable-auto-login")) {
            authority.ended(room);
        }
        client.send("<presence type='unavailable' to='" + Stanzas.escape(room) + "/focus'/>");
    }

    private boolean conference(String room) {
        Room served = rooms.computeIfAbsent(room, key -> new Room());
        if (served.entered.getCount() > 0) {
            client.send("<presence to='" + Stanzas.escape(room) + "/focus'><x xmlns='http://jabber.org/protocol/muc'/></presence>");
            try {
                if (!served.entered.await(5, TimeUnit.SECONDS)) {
                    rooms.remove(room);
                    return false;
                }
            } catch (InterruptedException stop) {
                return false;
            }
            client.ask("set", room, "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>");
            // JitsiMeetConferenceImpl.java: a room that nobody enters is given up
            clock.schedule(() -> {
                if (rooms.get(room) == served && served.occupants.isEmpty()) {
                    leave(room);
                }
            }, settings.config().getDuration("jicofo.conference.initial-timeout").toMillis(), TimeUnit.MILLISECONDS);
        }
        return true;
    }

    private void occupant(Element presence, String room, String from) {
        Room served = rooms.get(room);
        boolean gone = presence.getAttribute("type").equals("unavailable") || presence.getAttribute("type").equals("error");
        if (from.endsWith("/focus")) {
            if (gone) {
                rooms.remove(room);
            } else {
                served.entered.countDown();
            }
            return;
        }
        if (gone) {
            served.occupants.remove(from);
            if (served.offered.remove(from)) {
                expire(room, served.bridge, from);
            }
            if (served.occupants.isEmpty()) {
                leave(room);
            }
            return;
        }
        Element item = Stanzas.child(Stanzas.child(presence, "x"), "item");
        served.occupants.put(from, item == null ? "" : item.getAttribute("jid"));
        roles(room, served, presence);
        if (served.occupants.size() >= settings.number("jicofo.conference.min-participants")) {
            Thread offers = new Thread(() -> served.occupants.keySet().forEach(each -> offer(room, served, each)), "offers");
            offers.setDaemon(true);
            offers.start();
        }
    }

    /** BridgeSelector.kt: an operational bridge, rather one that does not drain; a conference stays on its bridge. */
    private String select(Room room) {
        List<String> operational = operational();
        if (room.bridge == null || !operational.contains(room.bridge)) {
            room.bridge = operational.stream().filter(jid -> !"true".equals(bridges.get(jid).get("drain"))).findFirst()
                    .orElse(operational.isEmpty() ? null : operational.get(0));
        }
        return room.bridge;
    }

    /** ColibriV2SessionManager.kt: who leaves is taken off the bridge. */
    private void expire(String room, String bridge, String occupant) {
        Thread thread = new Thread(() -> client.ask("set", bridge, "<conference-modify xmlns='http://jitsi.org/protocol/colibri2' meeting-id='"
                + Stanzas.escape(room) + "'><endpoint id='" + Stanzas.escape(occupant.substring(occupant.indexOf('/') + 1))
                + "' expire='true'/></conference-modify>"), "expire");
        thread.setDaemon(true);
        thread.start();
    }

    private void offer(String room, Room served, String occupant) {
        String bridge = select(served);
        if (bridge == null || !served.offered.add(occupant)) {
            return;
        }
        String id = occupant.substring(occupant.indexOf('/') + 1);
        Element answer = client.ask("set", bridge, "<conference-modify xmlns='http://jitsi.org/protocol/colibri2' meeting-id='"
                + Stanzas.escape(room) + "' name='" + Stanzas.escape(room) + "' create='true'><endpoint id='" + Stanzas.escape(id)
                + "' create='true'><transport ice-controlling='true'/></endpoint></conference-modify>");
        Element endpoint = Stanzas.child(Stanzas.child(answer, "conference-modified"), "endpoint");
        Element transport = Stanzas.child(Stanzas.child(endpoint, "transport"), "transport");
        if (transport == null) {
            served.offered.remove(occupant);
            Log.warn("the bridge allocated nothing for a participant");
            return;
        }
        StringBuilder candidates = new StringBuilder();
        for (Element candidate : Stanzas.children(transport)) {
            if (candidate.getLocalName().equals("candidate")) {
                candidates.append("<candidate");
                for (String name : List.of("component", "foundation", "generation", "id", "ip", "network", "port", "priority", "protocol", "type")) {
                    candidates.append(" ").append(name).append("='").append(Stanzas.escape(candidate.getAttribute(name))).append("'");
                }
                candidates.append("/>");
            }
        }
        String ice = "<transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='" + transport.getAttribute("ufrag") + "' pwd='"
                + transport.getAttribute("pwd") + "'>" + candidates + fingerprint(transport) + "</transport>";
        client.ask("set", occupant, "<jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' initiator='" + Stanzas.escape(room)
                + "/focus' sid='" + Media.token(12) + "'>" + content("audio", ice) + content("video", ice) + "</jingle>");
    }

    private static String fingerprint(Element transport) {
        Element found = Stanzas.child(transport, "fingerprint");
        return found == null ? "" : "<fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='" + Stanzas.escape(found.getAttribute("hash"))
                + "' setup='" + Stanzas.escape(found.getAttribute("setup")) + "'>" + Stanzas.escape(found.getTextContent()) + "</fingerprint>";
    }

    private static String content(String media, String transport) {
        return "<content creator='initiator' name='" + media + "' senders='both'><description xmlns='urn:xmpp:jingle:apps:rtp:1' media='"
                + media + "'/>" + transport + "</content>";
    }
}
