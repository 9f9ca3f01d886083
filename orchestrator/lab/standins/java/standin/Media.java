package standin;

import java.io.IOException;
import java.net.DatagramPacket;
import java.net.DatagramSocket;
import java.net.Inet6Address;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.NetworkInterface;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.zip.CRC32;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** The bridge's UDP port: answers a STUN binding request only with the ufrag and password of a live session (RFC 8445). */
final class Media {
    private static final int COOKIE = 0x2112A442;

    private final int port;
    private final Map<String, String> passwords = new ConcurrentHashMap<>();
    private final List<InetAddress> addresses;

    Media(int port, List<String> allowed) throws IOException {
        this.port = port;
        addresses = localAddresses(allowed);
        for (InetAddress address : addresses) {
            DatagramSocket socket = new DatagramSocket(new InetSocketAddress(address, port));
            Thread thread = new Thread(() -> serve(socket), "udp-" + address.getHostAddress());
            thread.setDaemon(true);
            thread.start();
        }
    }

    /** ice4j: one socket per address of this host, without loopback and link-local ones; HostCandidateHarvester.java, isAddressAllowed. */
    private static List<InetAddress> localAddresses(List<String> allowed) throws IOException {
        List<InetAddress> chosen = new ArrayList<>();
        for (String address : allowed) {
            chosen.add(InetAddress.getByName(address));
        }
        List<InetAddress> found = new ArrayList<>();
        for (NetworkInterface card : Collections.list(NetworkInterface.getNetworkInterfaces())) {
            if (card.isUp() && !card.isLoopback()) {
                for (InetAddress address : Collections.list(card.getInetAddresses())) {
                    if (!address.isLinkLocalAddress() && (chosen.isEmpty() || chosen.contains(address))) {
                        found.add(address);
                    }
                }
            }
        }
        return found;
    }

    List<InetAddress> addresses() {
        return addresses;
    }

    /** JvbHealthChecker.kt: an address that is neither site-local, nor link-local, nor loopback. */
    boolean hasValidAddress() {
        return addresses.stream().anyMatch(address -> !address.isSiteLocalAddress() && !address.isLinkLocalAddress()
                && !address.isLoopbackAddress() && !unique(address));
    }

    private static boolean unique(InetAddress address) {
        return address instanceof Inet6Address && (address.getAddress()[0] & 0xfe) == 0xfc;
    }

    /** Opens a session and returns its ufrag and password. */
    String[] open() {
        String ufrag = token(5);
        String password = token(24);
        passwords.put(ufrag, password);
        return new String[] {ufrag, password};
    }

    void close(String ufrag) {
        passwords.remove(ufrag);
    }

    int sessions() {
        return passwords.size();
    }

    static String token(int length) {
        String letters = "abcdefghijklmnopqrstuvwxyz0123456789";
        StringBuilder text = new StringBuilder();
        SecureRandom random = new SecureRandom();
        for (int i = 0; i < length; i++) {
            text.append(letters.charAt(random.nextInt(letters.length())));
        }
        return text.toString();
    }

    /** IceTransport.kt leaves private ones out unless told otherwise; MappingCandidateHarvester.kt adds one for each mapped address. */
    String candidates(boolean advertisePrivate, Map<String, String> mapped) {
        List<String> found = new ArrayList<>();
        for (InetAddress address : addresses) {
            String ip = address.getHostAddress().replaceAll("%.*", "");
            if (advertisePrivate || !(address.isSiteLocalAddress() || unique(address))) {
                found.add(candidate(found.size() + 1, ip, "host", 2130706431));
            }
            if (mapped.containsKey(ip)) {
                found.add(candidate(found.size() + 1, mapped.get(ip), "srflx", 1677724415));
            }
        }
        return String.join("", found);
    }

    private String candidate(int number, String ip, String type, int priority) {
        return "<candidate component='1' foundation='" + number + "' generation='0' id='c" + number + "' ip='" + Stanzas.escape(ip)
                + "' network='0' port='" + port + "' priority='" + (priority - number) + "' protocol='udp' type='" + type + "'/>";
    }

    private void serve(DatagramSocket socket) {
        byte[] buffer = new byte[1500];
        while (true) {
            try {
                DatagramPacket packet = new DatagramPacket(buffer, buffer.length);
                socket.receive(packet);
                byte[] answer = answer(buffer, packet.getLength(), (InetSocketAddress) packet.getSocketAddress());
                if (answer != null) {
                    socket.send(new DatagramPacket(answer, answer.length, packet.getSocketAddress()));
                }
            } catch (Exception problem) {
                Log.warn("udp: " + problem);
            }
        }
    }

    private byte[] answer(byte[] data, int length, InetSocketAddress from) throws Exception {
        ByteBuffer in = ByteBuffer.wrap(data, 0, length);
        if (length < 20 || in.getShort(0) != 0x0001 || in.getInt(4) != COOKIE) {
            return null;
        }
        String ufrag = null;
        int integrityAt = -1;
        for (int at = 20; at + 4 <= length;) {
            int type = in.getShort(at) & 0xffff;
            int size = in.getShort(at + 2) & 0xffff;
            if (type == 0x0006 && at + 4 + size <= length) {
                ufrag = new String(data, at + 4, size, StandardCharsets.UTF_8).split(":")[0];
            }
            if (type == 0x0008) {
                integrityAt = at;
                break;
            }
            at += 4 + (size + 3) / 4 * 4;
        }
        String password = ufrag == null ? null : passwords.get(ufrag);
        if (password == null || integrityAt < 0) {
            return null;
        }
        byte[] signed = java.util.Arrays.copyOf(data, integrityAt);
        ByteBuffer.wrap(signed).putShort(2, (short) (integrityAt + 24 - 20));
        byte[] expected = hmac(password, signed);
        if (!java.security.MessageDigest.isEqual(expected, java.util.Arrays.copyOfRange(data, integrityAt + 4, integrityAt + 24))) {
            return unauthorized(data);
        }
        return success(data, from, password);
    }

    /** ice4j:stack/StunStack.java says 401 to a known user name with a wrong password. */
    private static byte[] unauthorized(byte[] request) {
        byte[] why = "Wrong MESSAGE-INTEGRITY value".getBytes(StandardCharsets.UTF_8);
        int padded = (why.length + 3) / 4 * 4;
        ByteBuffer out = ByteBuffer.allocate(20 + 8 + padded);
        out.putShort((short) 0x0111).putShort((short) (8 + padded)).putInt(COOKIE).put(request, 8, 12);
        out.putShort((short) 0x0009).putShort((short) (4 + why.length)).putShort((short) 0).put((byte) 4).put((byte) 1).put(why);
        return out.array();
    }

    private static byte[] success(byte[] request, InetSocketAddress from, String password) throws Exception {
        byte[] address = from.getAddress().getAddress();
        ByteBuffer out = ByteBuffer.allocate(20 + 8 + address.length + 24 + 8);
        out.putShort((short) 0x0101).putShort((short) (8 + address.length)).putInt(COOKIE).put(request, 8, 12);
        out.putShort((short) 0x0020).putShort((short) (4 + address.length)).put((byte) 0).put((byte) (address.length == 4 ? 1 : 2));
        out.putShort((short) (from.getPort() ^ (COOKIE >>> 16)));
        for (int i = 0; i < address.length; i++) {
            out.put((byte) (address[i] ^ request[4 + i]));
        }
        int at = out.position();
        out.putShort(2, (short) (at + 24 - 20));
        byte[] mac = hmac(password, java.util.Arrays.copyOf(out.array(), at));
        out.putShort((short) 0x0008).putShort((short) 20).put(mac);
        out.putShort(2, (short) (at + 24 + 8 - 20));
        CRC32 crc = new CRC32();
        crc.update(out.array(), 0, at + 24);
        out.putShort((short) 0x8028).putShort((short) 4).putInt((int) crc.getValue() ^ 0x5354554e);
        return out.array();
    }

    private static byte[] hmac(String key, byte[] data) throws Exception {
        Mac mac = Mac.getInstance("HmacSHA1");
        mac.init(new SecretKeySpec(key.getBytes(StandardCharsets.UTF_8), "HmacSHA1"));
        return mac.doFinal(data);
    }
}
