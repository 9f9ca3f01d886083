package standin;

import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import javax.xml.parsers.DocumentBuilderFactory;
import org.w3c.dom.Element;
import org.w3c.dom.Node;
import org.xml.sax.InputSource;

/** Cuts an XMPP stream into stanzas and reads each with the JDK's own parser. */
final class Stanzas {
    private static final DocumentBuilderFactory FACTORY = DocumentBuilderFactory.newInstance();

    static {
        FACTORY.setNamespaceAware(true);
    }

    private final Reader reader;

    Stanzas(InputStream stream) {
        reader = new InputStreamReader(stream, StandardCharsets.UTF_8);
    }

    /** Returns the next stanza, skipping the stream's header; null at its end. */
    Element next() throws Exception {
        StringBuilder text = new StringBuilder();
        int depth = 0;
        while (true) {
            int c = reader.read();
            if (c < 0) {
                return null;
            }
            if (c != '<') {
                if (depth > 0) {
                    text.append((char) c);
                }
                continue;
            }
            String tag = tag();
            if (tag.startsWith("<?") || tag.startsWith("<stream:stream")) {
                continue;
            }
            if (tag.startsWith("</stream:stream")) {
                return null;
            }
            text.append(tag);
            if (tag.startsWith("</")) {
                depth--;
            } else if (!tag.endsWith("/>")) {
                depth++;
            }
            if (depth == 0) {
                return parse(text.toString());
            }
        }
    }

    private String tag() throws IOException {
        StringBuilder tag = new StringBuilder("<");
        int quote = 0;
        while (true) {
            int c = reader.read();
            if (c < 0) {
                throw new IOException("the stream ended inside a tag");
            }
            tag.append((char) c);
            if (quote != 0) {
                quote = c == quote ? 0 : quote;
            } else if (c == '\'' || c == '"') {
                quote = c;
            } else if (c == '>') {
                return tag.toString();
            }
        }
    }

    static Element parse(String stanza) throws Exception {
        String whole = "<x xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>" + stanza + "</x>";
        Element root = FACTORY.newDocumentBuilder().parse(new InputSource(new StringReader(whole))).getDocumentElement();
        return children(root).get(0);
    }

    static List<Element> children(Element parent) {
        List<Element> found = new ArrayList<>();
        for (Node node = parent.getFirstChild(); node != null; node = node.getNextSibling()) {
            if (node instanceof Element element) {
                found.add(element);
            }
        }
        return found;
    }

    /** Returns the first child of that local name, or null. */
    static Element child(Element parent, String name) {
        if (parent != null) {
            for (Element element : children(parent)) {
                if (element.getLocalName().equals(name)) {
                    return element;
                }
            }
        }
        return null;
    }

    static String text(Element element) {
        Element first = children(element).isEmpty() ? null : children(element).get(0);
        return first == null ? element.getLocalName() : first.getLocalName();
    }

    static String escape(String text) {
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("'", "&apos;").replace("\"", "&quot;");
    }
}
