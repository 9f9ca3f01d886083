package standin;

import java.util.List;
import java.util.Map;

/** Writes JSON, and reads the little of it that two requests carry. */
final class Json {
    private Json() { }

    static String write(Object value) {
        if (value instanceof Map<?, ?> map) {
            StringBuilder text = new StringBuilder("{");
            map.forEach((key, item) -> text.append(text.length() > 1 ? "," : "").append(quote(String.valueOf(key))).append(":")
                    .append(write(item)));
            return text.append("}").toString();
        }
        if (value instanceof List<?> list) {
            StringBuilder text = new StringBuilder("[");
            list.forEach(item -> text.append(text.length() > 1 ? "," : "").append(write(item)));
            return text.append("]").toString();
        }
        return value == null || value instanceof Number || value instanceof Boolean ? String.valueOf(value) : quote(value.toString());
    }

    private static String quote(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                quoted.append('\\').append(c);
            } else if (c < ' ') {
                quoted.append(String.format("\\u%04x", (int) c));
            } else {
                quoted.append(c);
            }
        }
        return quoted.append('"').toString();
    }

    /** Returns the text value of a key in a flat request body, or null. */
    static String field(String body, String key) {
        var match = java.util.regex.Pattern.compile("\"" + key + "\"\\s*:\\s*\"([^\"]*)\"").matcher(body);
        return match.find() ? match.group(1) : null;
    }
}
