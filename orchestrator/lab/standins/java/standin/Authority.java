package standin;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/**
 * Who may open rooms, by log-in to a domain (jicofo: auth/XMPPDomainAuthAuthority.java, auth/AbstractAuthAuthority.java). A session
 * made by an account's address may be used by another address of the same machine: that is how the web client's anonymous
 * connection becomes a host's.
 */
final class Authority {
    private record Session(String machine, String identity, String room) { }

    private final String domain;
    private final Map<String, Session> sessions = new ConcurrentHashMap<>();
    private final Map<String, String> people = new ConcurrentHashMap<>();

    Authority(String domain) {
        this.domain = domain;
    }

    /** Looks at a request's address, machine and session; returns the reason for a refusal or null. */
    synchronized String process(String from, String machine, String id, String room) {
        Session session = sessions.get(id);
        if (!id.isEmpty() && session == null) {
            return "<not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><session-invalid xmlns='http://jitsi.org/protocol/focus'/>";
        }
        if (session != null && !session.machine().equals(machine)) {
            return "<not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>";
        }
        String used = id;
        if (session == null && from.contains("@" + domain + "/")) {
            if (machine.isEmpty()) {
                return "<not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>";
            }
            used = Media.token(32);
            sessions.put(used, new Session(machine, from.replaceAll("/.*", ""), room));
        }
        if (!used.isEmpty() && !from.isEmpty()) {
            String now = used;
            people.values().removeIf(now::equals);
            people.put(from, used);
        }
        return null;
    }

    /** Forgets who logged in for a meeting that is over: what Jicofo does without enable-auto-login. */
    synchronized void ended(String room) {
        sessions.values().removeIf(session -> session.room().equals(room));
        people.values().removeIf(id -> !sessions.containsKey(id));
    }

    /** Returns the session of an address, null where it has none. */
    String session(String jid) {
        return people.get(jid);
    }

    /** Returns whose session an address has, null where it has none. */
    String identity(String jid) {
        Session session = people.containsKey(jid) ? sessions.get(people.get(jid)) : null;
        return session == null ? null : session.identity();
    }
}
