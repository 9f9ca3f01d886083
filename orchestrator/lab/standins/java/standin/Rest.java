package standin;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;

/** The private HTTP interface: what is not registered answers 404, as upstream. */
final class Rest {
    /** Answers one request. */
    interface Answer {
        /** Returns status and body. */
        Reply to(String method, String path, String body);
    }

    record Reply(int status, String body) { }

    private final HttpServer server;

    Rest(String host, int port) throws IOException {
        server = HttpServer.create(new InetSocketAddress(InetAddress.getByName(host), port), 50);
        server.setExecutor(Executors.newFixedThreadPool(4, task -> {
            Thread thread = new Thread(task, "rest");
            thread.setDaemon(true);
            return thread;
        }));
    }

    Rest on(String path, Answer answer) {
        server.createContext(path, exchange -> {
            Reply reply = exact(path, exchange)
                    ? answer.to(exchange.getRequestMethod(), exchange.getRequestURI().getPath(), body(exchange))
                    : new Reply(404, "");
            byte[] content = reply.body().getBytes(StandardCharsets.UTF_8);
            exchange.getResponseHeaders().set("Content-Type", reply.body().startsWith("{") ? "application/json" : "text/plain");
            exchange.sendResponseHeaders(reply.status(), content.length == 0 ? -1 : content.length);
            if (content.length > 0) {
                exchange.getResponseBody().write(content);
            }
            exchange.close();
        });
        return this;
    }

    private static boolean exact(String path, HttpExchange exchange) {
        return exchange.getRequestURI().getPath().equals(path);
    }

    private static String body(HttpExchange exchange) throws IOException {
        return new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
    }

    void start() {
        server.start();
    }
}
