package standin;

import com.typesafe.config.Config;
import com.typesafe.config.ConfigException;
import com.typesafe.config.ConfigFactory;
import com.typesafe.config.ConfigUtil;
import java.io.File;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.TreeSet;

/** Reads HOCON with upstream's defaults; a key that upstream does not know is an error here (stricter on purpose). */
final class Settings {
    private final Config config;

    private Settings(Config config) {
        this.config = config;
    }

    /** Reads -Dconfig.file; ends the process with 78, as upstream's bridge does for a wrong configuration. */
    static Settings read(String defaults, Set<String> known, List<String> roots) {
        String path = System.getProperty("config.file", "");
        if (!new File(path).canRead()) {
            stop("no readable configuration file: -Dconfig.file=" + path);
        }
        try {
            Config own = ConfigFactory.parseFile(new File(path)).resolve();
            Set<String> unknown = new TreeSet<>();
            own.entrySet().forEach(entry -> {
                List<String> words = ConfigUtil.splitPath(entry.getKey());
                String key = String.join(".", words);
                if (roots.contains(words.get(0)) && known.stream().noneMatch(pattern -> fits(key, pattern))) {
                    unknown.add(key);
                }
            });
            if (!unknown.isEmpty()) {
                stop("unknown configuration keys in " + path + ": " + unknown);
            }
            return new Settings(own.withFallback(ConfigFactory.parseString(defaults)).resolve());
        } catch (ConfigException problem) {
            stop("configuration: " + problem.getMessage());
            return null;
        }
    }

    private static boolean fits(String key, String pattern) {
        return key.toLowerCase(Locale.ROOT).matches(pattern.toLowerCase(Locale.ROOT).replace(".", "\\.").replace("*", "[^.]+"));
    }

    private static void stop(String why) {
        System.err.println(why);
        System.exit(78);
    }

    Config config() {
        return config;
    }

    String text(String path) {
        return config.getString(path);
    }

    boolean flag(String path) {
        return config.getBoolean(path);
    }

    int number(String path) {
        return config.getInt(path);
    }

    boolean has(String path) {
        return config.hasPath(path);
    }
}
