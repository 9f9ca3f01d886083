package standin;

import java.security.SecureRandom;
import java.security.cert.X509Certificate;
import javax.net.SocketFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509TrustManager;

/** The JVM's trust store, or none where DISABLE_CERTIFICATE_VERIFICATION says so, as upstream. */
final class Trust {
    private Trust() { }

    static SocketFactory factory(boolean verify) throws Exception {
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, verify ? null : new TrustManager[] {new Anything()}, new SecureRandom());
        return context.getSocketFactory();
    }

    private static final class Anything implements X509TrustManager {
        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type) { }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type) { }

        @Override
        public X509Certificate[] getAcceptedIssuers() {
            return new X509Certificate[0];
        }
    }
}
