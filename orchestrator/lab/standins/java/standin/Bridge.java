package standin;

import com.typesafe.config.ConfigObject;
import com.typesafe.config.ConfigValue;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.w3c.dom.Element;

/** Stand-in of jitsi-videobridge: outward behaviour only; it relays no media. */
public final class Bridge {
    // jitsi-videobridge:jvb/src/main/resources/reference.conf and ice4j:src/main/resources/reference.conf
    private static final String DEFAULTS = """
        videobridge { apis { rest.enabled = false, xmpp-client { presence-interval = 5 seconds, configs {} } }
          rest { drain.enabled = true, health.enabled = true, version.enabled = true, prometheus.enabled = true, debug.enabled = true,
                 shutdown.enabled = false }
          http-servers.private { host = 127.0.0.1, port = 8080 }
          ice { udp.port = 10000, advertise-private-candidates = true }
          health { require-valid-address = true, interval = 60 seconds }
          initial-drain-mode = false, redact-remote-addresses = true
          shutdown { shutting-down-delay = 1 minute, graceful-shutdown-min-participants = 0 } }
        ice4j.harvest { allowed-addresses = [], mapping { stun.addresses = [], aws.enabled = true, static-mappings = [] } }
        """;
    private static final Set<String> KNOWN = Set.of(
        "videobridge.apis.rest.enabled", "videobridge.apis.xmpp-client.presence-interval",
        "videobridge.apis.xmpp-client.stats-filter.enabled", "videobridge.stats.interval",
        "videobridge.apis.xmpp-client.configs.*.HOSTNAME", "videobridge.apis.xmpp-client.configs.*.PORT",
        "videobridge.apis.xmpp-client.configs.*.DOMAIN", "videobridge.apis.xmpp-client.configs.*.USERNAME",
        "videobridge.apis.xmpp-client.configs.*.PASSWORD", "videobridge.apis.xmpp-client.configs.*.MUC_JIDS",
        "videobridge.apis.xmpp-client.configs.*.MUC_NICKNAME",
        "videobridge.apis.xmpp-client.configs.*.DISABLE_CERTIFICATE_VERIFICATION",
        "videobridge.rest.debug.enabled", "videobridge.rest.drain.enabled", "videobridge.rest.health.enabled",
        "videobridge.rest.prometheus.enabled", "videobridge.rest.rtcstats.enabled", "videobridge.rest.version.enabled",
        "videobridge.rest.shutdown.enabled", "videobridge.http-servers.private.host", "videobridge.http-servers.private.port",
        "videobridge.http-servers.public.port", "videobridge.websockets.enabled", "videobridge.sctp.enabled",
        "videobridge.relay.enabled", "videobridge.relay.region", "videobridge.relay.relay-id",
        "videobridge.ice.udp.port", "videobridge.ice.advertise-private-candidates",
        "videobridge.health.interval", "videobridge.health.require-valid-address", "videobridge.health.require-stun",
        "videobridge.shutdown.graceful-shutdown-max-duration", "videobridge.shutdown.graceful-shutdown-min-participants",
        "videobridge.shutdown.shutting-down-delay", "videobridge.initial-drain-mode", "videobridge.redact-remote-addresses",
        "videobridge.version.announce", "videobridge.version.release", "videobridge.cc.jvb-last-n",
        "videobridge.load-management.reducer-enabled", "videobridge.entity-expiration.timeout",
        "ice4j.harvest.mapping.stun.addresses", "ice4j.harvest.mapping.aws.enabled", "ice4j.harvest.mapping.static-mappings",
        "ice4j.harvest.use-ipv6", "ice4j.harvest.allowed-interfaces", "ice4j.harvest.blocked-interfaces",
        "ice4j.harvest.allowed-addresses", "ice4j.harvest.blocked-addresses", "ice4j.harvest.udp.receive-buffer-size",
        "ice4j.redact-remote-addresses");

    private final Settings settings;
    private final Media media;
    private final boolean broken;
    private final String version = System.getProperty("standin.version", "2.3");
    private final Map<String, Xmpp> clients = new ConcurrentHashMap<>();
    private final Map<String, String> joined = new ConcurrentHashMap<>();
    private final Map<String, Map<String, String>> conferences = new ConcurrentHashMap<>();
    private volatile boolean drain;
    private volatile boolean graceful;
    private volatile boolean shuttingDown;

    private Bridge(Settings settings) throws Exception {
        this.settings = settings;
        // The third release is broken on purpose: it starts, joins, and never becomes healthy.
        broken = Boolean.getBoolean("standin.broken");
        drain = settings.flag("videobridge.initial-drain-mode");
        media = new Media(settings.number("videobridge.ice.udp.port"), settings.config().getStringList("ice4j.harvest.allowed-addresses"));
    }

    /** Starts the bridge and never returns. */
    public static void main(String[] words) throws Exception {
        Settings settings = Settings.read(DEFAULTS, KNOWN, List.of("videobridge", "ice4j"));
        loadNative();
        Bridge bridge = new Bridge(settings);
        bridge.rest();
        bridge.join();
        Thread.currentThread().join();
    }

    /**
     * Upstream's SCTP library is unpacked to java.io.tmpdir and loaded from there at start (through JNA); a noexec directory
     * therefore breaks every join (docker-jitsi-meet issue 2323). Here it is a copy of one of the JRE's own libraries.
     */
    private static void loadNative() throws Exception {
        Path library = Path.of(System.getProperty("java.home"), "lib", "libprefs.so");
        Path copy = Files.createTempFile("jna", ".so");
        Files.copy(library, copy, StandardCopyOption.REPLACE_EXISTING);
        try {
            System.load(copy.toString());
        } finally {
            Files.delete(copy);
        }
    }

    private boolean healthy() {
        return !broken && (media.hasValidAddress() || !settings.flag("videobridge.health.require-valid-address"));
    }

    private void rest() throws Exception {
        Rest rest = new Rest(settings.text("videobridge.http-servers.private.host"),
                settings.number("videobridge.http-servers.private.port"));
        rest.on("/about/health", (method, path, body) -> new Rest.Reply(healthy() ? 200 : 500, healthy() ? "" : "{\"error\":\"unhealthy\"}"));
        rest.on("/about/version", (m, p, b) -> json(Map.of("name", "JVB", "version", version, "os", "Linux", "standIn", true)));
        rest.on("/metrics", (m, p, b) -> new Rest.Reply(200, "jitsi_jvb_healthy " + (healthy() ? 1 : 0) + "\njitsi_jvb_drain_mode "
                + (drain ? 1 : 0) + "\njitsi_jvb_local_endpoints " + media.sessions() + "\n"));
        rest.on("/colibri/drain", (m, p, b) -> json(Map.of("drain", drain)));
        rest.on("/colibri/drain/enable", (m, p, b) -> drain(m, true));
        rest.on("/colibri/drain/disable", (m, p, b) -> drain(m, false));
        if (settings.flag("videobridge.apis.rest.enabled")) {
            rest.on("/colibri/stats", (m, p, b) -> json(stats()));
            if (settings.flag("videobridge.rest.shutdown.enabled")) {
                rest.on("/colibri/shutdown", this::shutdown);
            }
        }
        rest.start();
    }

    private static Rest.Reply json(Map<String, ?> value) {
        return new Rest.Reply(200, Json.write(value));
    }

    private Rest.Reply drain(String method, boolean value) {
        if (!method.equals("POST")) {
            return new Rest.Reply(405, "");
        }
        drain = value;
        publish();
        return new Rest.Reply(200, "");
    }

    /** Shutdown.java: the body decides between waiting for the last participant and leaving within a minute. */
    private Rest.Reply shutdown(String method, String path, String body) {
        if (!method.equals("POST")) {
            return new Rest.Reply(405, "");
        }
        graceful = true;
        boolean wait = body.replace(" ", "").contains("\"graceful-shutdown\":true");
        Thread leaving = new Thread(() -> {
            try {
                while (wait && media.sessions() > settings.number("videobridge.shutdown.graceful-shutdown-min-participants")) {
                    Thread.sleep(500);
                }
                shuttingDown = true;
                publish();
                Thread.sleep(settings.config().getDuration("videobridge.shutdown.shutting-down-delay").toMillis());
            } catch (InterruptedException stop) {
                Log.warn("interrupted while leaving");
            }
            System.exit(0);
        }, "shutdown");
        leaving.start();
        publish();
        return new Rest.Reply(200, "");
    }

    private Map<String, Object> stats() {
        Map<String, Object> stats = new LinkedHashMap<>();
        stats.put("conferences", conferences.size());
        stats.put("participants", media.sessions());
        stats.put("local_endpoints", media.sessions());
        stats.put("octo_endpoints", 0);
        stats.put("stress_level", media.sessions() * 0.01);
        stats.put("healthy", healthy());
        stats.put("drain", drain);
        stats.put("graceful_shutdown", graceful);
        stats.put("shutting_down", shuttingDown);
        stats.put("version", version);
        stats.put("muc_clients_configured", clients.size());
        stats.put("muc_clients_connected", clients.values().stream().filter(Xmpp::isConnected).count());
        stats.put("mucs_configured", clients.size());
        stats.put("mucs_joined", joined.size());
        return stats;
    }

    private void join() {
        ConfigObject configs = settings.config().getObject("videobridge.apis.xmpp-client.configs");
        for (Map.Entry<String, ConfigValue> entry : configs.entrySet()) {
            Map<String, Object> shard = new LinkedHashMap<>();
            ((ConfigObject) entry.getValue()).unwrapped().forEach((key, value) -> shard.put(key.toUpperCase(Locale.ROOT), value));
            boolean verify = !"true".equals(String.valueOf(shard.get("DISABLE_CERTIFICATE_VERIFICATION")));
            Xmpp client = new Xmpp(text(shard, "HOSTNAME"), Integer.parseInt(String.valueOf(shard.getOrDefault("PORT", "5222"))),
                    text(shard, "DOMAIN"), text(shard, "USERNAME"), text(shard, "PASSWORD"), verify);
            String room = text(shard, "MUC_JIDS") + "/" + text(shard, "MUC_NICKNAME");
            clients.put(room, client);
            client.onStanza(stanza -> handle(client, room, stanza));
            client.run(() -> client.send(presence(room)));
        }
        Thread beat = new Thread(() -> {
            long pause = settings.config().getDuration("videobridge.apis.xmpp-client.presence-interval").toMillis();
            while (true) {
                try {
                    Thread.sleep(pause);
                } catch (InterruptedException stop) {
                    return;
                }
                publish();
            }
        }, "presence");
        beat.setDaemon(true);
        beat.start();
    }

    private static String text(Map<String, Object> shard, String key) {
        return String.valueOf(shard.getOrDefault(key, ""));
    }

    private void publish() {
        clients.forEach((room, client) -> {
            if (client.isConnected()) {
                client.send(presence(room));
            }
        });
    }

    private String presence(String room) {
        StringBuilder text = new StringBuilder("<presence to='" + Stanzas.escape(room) + "'>");
        text.append("<x xmlns='http://jabber.org/protocol/muc'/><stats xmlns='http://jitsi.org/protocol/colibri'>");
        List<String> names = new ArrayList<>(stats().keySet());
        Map<String, Object> values = stats();
        names.forEach(name -> text.append("<stat name='").append(name).append("' value='").append(values.get(name)).append("'/>"));
        return text.append("</stats></presence>").toString();
    }

    private void handle(Xmpp client, String room, Element stanza) {
        if (stanza.getLocalName().equals("presence") && stanza.getAttribute("from").equalsIgnoreCase(room)) {
            if (stanza.getAttribute("type").isEmpty()) {
                joined.put(room, room);
            } else {
                joined.remove(room);
                Log.warn("the brewery refused the bridge: " + stanza.getAttribute("type"));
            }
            return;
        }
        if (!stanza.getLocalName().equals("iq")) {
            return;
        }
        Element payload = Stanzas.children(stanza).isEmpty() ? null : Stanzas.children(stanza).get(0);
        String name = payload == null ? "" : payload.getLocalName();
        if (name.equals("conference-modify")) {
            client.answer(stanza, "result", allocate(payload));
        } else if (name.equals("healthcheck")) {
            client.answer(stanza, healthy() ? "result" : "error", "");
        } else {
            client.answer(stanza, name.equals("query") ? "result" : "error", "");
        }
    }

    private String candidates() {
        Map<String, String> mapped = new LinkedHashMap<>();
        settings.config().getConfigList("ice4j.harvest.mapping.static-mappings")
                .forEach(row -> mapped.put(row.getString("local-address"), row.getString("public-address")));
        return media.candidates(settings.flag("videobridge.ice.advertise-private-candidates"), mapped);
    }

    /** Colibri2ConferenceHandler.kt, as far as one endpoint's transport goes. */
    private String allocate(Element request) {
        String meeting = request.getAttribute("meeting-id");
        Map<String, String> endpoints = conferences.computeIfAbsent(meeting, key -> new ConcurrentHashMap<>());
        StringBuilder answer = new StringBuilder("<conference-modified xmlns='http://jitsi.org/protocol/colibri2'>");
        for (Element endpoint : Stanzas.children(request)) {
            String id = endpoint.getAttribute("id");
            if (endpoint.getAttribute("expire").equals("true")) {
                String ufrag = endpoints.remove(id);
                if (ufrag != null) {
                    media.close(ufrag);
                }
                continue;
            }
            String[] session = media.open();
            endpoints.put(id, session[0]);
            answer.append("<endpoint id='").append(Stanzas.escape(id)).append("'><transport>")
                    .append("<transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='").append(session[0]).append("' pwd='")
                    .append(session[1]).append("'>").append(candidates())
                    .append("<fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256' setup='actpass'>")
                    .append(String.join(":", java.util.Collections.nCopies(32, "00"))).append("</fingerprint></transport></transport></endpoint>");
        }
        if (endpoints.isEmpty()) {
            conferences.remove(meeting);
        }
        return answer.append("</conference-modified>").toString();
    }
}
