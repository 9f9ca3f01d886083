package standin;

import java.util.logging.Level;
import java.util.logging.LogManager;
import java.util.logging.Logger;

/** java.util.logging, set up by -Djava.util.logging.config.file as upstream's start scripts do. */
final class Log {
    private static final Logger LOGGER = Logger.getLogger("org.jitsi.standin");

    private Log() { }

    static void info(String text) {
        LOGGER.log(Level.INFO, text);
    }

    static void warn(String text) {
        LOGGER.log(Level.WARNING, text);
    }

    static void flush() {
        LogManager.getLogManager().reset();
    }
}
