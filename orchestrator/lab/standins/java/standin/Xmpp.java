package standin;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.Base64;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;
import javax.crypto.Mac;
import javax.crypto.SecretKeyFactory;
import javax.crypto.spec.PBEKeySpec;
import javax.crypto.spec.SecretKeySpec;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;
import org.w3c.dom.Element;

/** A small XMPP client: STARTTLS against the JVM's trust store, SCRAM-SHA-1, bind, IQ and presence. */
final class Xmpp {
    private static final AtomicLong IDS = new AtomicLong(System.nanoTime());

    private final String host;
    private final int port;
    private final String domain;
    private final String user;
    private final String password;
    private final boolean verify;
    private final Map<String, CompletableFuture<Element>> waiting = new ConcurrentHashMap<>();
    private volatile Consumer<Element> handler = stanza -> { };
    private volatile Socket socket;
    private volatile boolean connected;
    private Stanzas in;
    private OutputStream out;
    private String jid = "";

    Xmpp(String host, int port, String domain, String user, String password, boolean verify) {
        this.host = host;
        this.port = port;
        this.domain = domain;
        this.user = user;
        this.password = password;
        this.verify = verify;
    }

    void onStanza(Consumer<Element> consumer) {
        handler = consumer;
    }

    boolean isConnected() {
        return connected;
    }

    String jid() {
        return jid;
    }

    /** Connects for ever: after a loss again, every second at first, every five later. */
    void run(Runnable onConnected) {
        Thread thread = new Thread(() -> {
            int failures = 0;
            while (true) {
                try {
                    connect();
                    failures = 0;
                    connected = true;
                    Thread ready = new Thread(onConnected, "xmpp-connected");
                    ready.setDaemon(true);
                    ready.start();
                    read();
                } catch (Exception problem) {
                    Log.warn("XMPP " + user + "@" + domain + " at " + host + ":" + port + ": " + problem);
                }
                connected = false;
                close();
                try {
                    Thread.sleep(failures++ < 10 ? 1000 : 5000);
                } catch (InterruptedException stop) {
                    return;
                }
            }
        }, "xmpp");
        thread.setDaemon(true);
        thread.start();
    }

    private void connect() throws Exception {
        socket = new Socket(host, port);
        open();
        Element features = in.next();
        boolean offered = Stanzas.child(features, "starttls") != null;
        // jicoco-mucclient/MucClient.java: TLS is required unless the host is this one; there it is used if offered.
        boolean local = host.equals("localhost") || host.equals("127.0.0.1") || host.equals("::1");
        if (!offered && !local) {
            throw new IOException("the server offers no TLS and is not on this host");
        }
        if (offered) {
            raw("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
            in.next();
            SSLSocket tls = (SSLSocket) ((SSLSocketFactory) Trust.factory(verify)).createSocket(socket, domain, port, true);
            SSLParameters parameters = tls.getSSLParameters();
            if (verify) {
                parameters.setEndpointIdentificationAlgorithm("HTTPS");
            }
            tls.setSSLParameters(parameters);
            tls.startHandshake();
            socket = tls;
            open();
            in.next();
        }
        authenticate();
        open();
        in.next();
        raw("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>" + user + "-"
                + Long.toHexString(new SecureRandom().nextLong()) + "</resource></bind></iq>");
        Element bound = in.next();
        jid = Stanzas.child(Stanzas.child(bound, "bind"), "jid").getTextContent();
    }

    private void open() throws Exception {
        InputStream stream = socket.getInputStream();
        out = socket.getOutputStream();
        in = new Stanzas(stream);
        raw("<?xml version='1.0'?><stream:stream to='" + domain
                + "' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>");
    }

    /** SCRAM-SHA-1, RFC 5802. */
    private void authenticate() throws Exception {
        String nonce = Long.toHexString(new SecureRandom().nextLong()) + Long.toHexString(new SecureRandom().nextLong());
        String bare = "n=" + user + ",r=" + nonce;
        raw("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>" + encode("n,," + bare) + "</auth>");
        Element challenge = in.next();
        if (!challenge.getLocalName().equals("challenge")) {
            throw new IOException("login refused: " + Stanzas.text(challenge));
        }
        String first = new String(Base64.getDecoder().decode(challenge.getTextContent()), StandardCharsets.UTF_8);
        Map<String, String> fields = new ConcurrentHashMap<>();
        for (String part : first.split(",")) {
            fields.put(part.substring(0, 1), part.substring(2));
        }
        PBEKeySpec spec = new PBEKeySpec(password.toCharArray(), Base64.getDecoder().decode(fields.get("s")),
                Integer.parseInt(fields.get("i")), 160);
        byte[] salted = SecretKeyFactory.getInstance("PBKDF2WithHmacSHA1").generateSecret(spec).getEncoded();
        byte[] clientKey = hmac(salted, "Client Key");
        String last = "c=biws,r=" + fields.get("r");
        byte[] signature = hmac(MessageDigest.getInstance("SHA-1").digest(clientKey), bare + "," + first + "," + last);
        for (int i = 0; i < signature.length; i++) {
            signature[i] ^= clientKey[i];
        }
        raw("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
                + encode(last + ",p=" + Base64.getEncoder().encodeToString(signature)) + "</response>");
        Element answer = in.next();
        if (!answer.getLocalName().equals("success")) {
            throw new IOException("login refused: " + Stanzas.text(answer));
        }
    }

    private static byte[] hmac(byte[] key, String text) throws Exception {
        Mac mac = Mac.getInstance("HmacSHA1");
        mac.init(new SecretKeySpec(key, "HmacSHA1"));
        return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
    }

    private static String encode(String text) {
        return Base64.getEncoder().encodeToString(text.getBytes(StandardCharsets.UTF_8));
    }

    private void read() throws Exception {
        while (true) {
            Element stanza = in.next();
            if (stanza == null) {
                throw new IOException("the server closed the stream");
            }
            String type = stanza.getAttribute("type");
            boolean answer = stanza.getLocalName().equals("iq") && (type.equals("result") || type.equals("error"));
            CompletableFuture<Element> future = answer ? waiting.remove(stanza.getAttribute("id")) : null;
            if (future != null) {
                future.complete(stanza);
                continue;
            }
            Thread worker = new Thread(() -> {
                try {
                    handler.accept(stanza);
                } catch (RuntimeException problem) {
                    Log.warn("a stanza could not be handled: " + problem);
                }
            }, "stanza");
            // Presence must be seen in order; requests may wait for other answers and must not block the stream.
            if (stanza.getLocalName().equals("iq")) {
                worker.setDaemon(true);
                worker.start();
            } else {
                worker.run();
            }
        }
    }

    void close() {
        try {
            if (socket != null) {
                socket.close();
            }
        } catch (IOException closed) {
            Log.warn("closing: " + closed);
        }
    }

    synchronized void send(String xml) {
        try {
            raw(xml);
        } catch (IOException lost) {
            Log.warn("not sent: " + lost);
        }
    }

    private synchronized void raw(String xml) throws IOException {
        out.write(xml.getBytes(StandardCharsets.UTF_8));
        out.flush();
    }

    /** Sends an IQ and waits at most ten seconds; null where no answer came. */
    Element ask(String type, String to, String payload) {
        String id = "q" + IDS.incrementAndGet();
        CompletableFuture<Element> future = new CompletableFuture<>();
        waiting.put(id, future);
        send("<iq type='" + type + "' id='" + id + "' to='" + Stanzas.escape(to) + "'>" + payload + "</iq>");
        try {
            return future.get(10, TimeUnit.SECONDS);
        } catch (Exception late) {
            waiting.remove(id);
            return null;
        }
    }

    void answer(Element request, String type, String payload) {
        send("<iq type='" + type + "' id='" + Stanzas.escape(request.getAttribute("id")) + "' to='"
                + Stanzas.escape(request.getAttribute("from")) + "'>" + payload + "</iq>");
    }
}
