#!/bin/bash
# jicofo:resources/jicofo.sh: takes its usual configuration file, refuses to run without any. That only the first
# compiler works is ours.
here=/usr/share/jicofo
: "${JICOFO_MAX_MEMORY:=3072m}"
case "$JAVA_SYS_PROPS" in
*-Dconfig.file=*) ;;
*)
    if [ ! -f /etc/jitsi/jicofo/jicofo.conf ]; then
        echo "To run jicofo you need a configuration file." && exit 2
    fi
    JAVA_SYS_PROPS="$JAVA_SYS_PROPS -Dconfig.file=/etc/jitsi/jicofo/jicofo.conf"
    ;;
esac
# shellcheck disable=SC2086  # several words on purpose
exec java -XX:TieredStopAtLevel=1 -Xmx$JICOFO_MAX_MEMORY -XX:+HeapDumpOnOutOfMemoryError -XX:HeapDumpPath=/tmp \
    -Djdk.tls.ephemeralDHKeySize=2048 -Dstandin.version="$(cat $here/version)" $JAVA_SYS_PROPS -cp "$here/jicofo.jar:$here/lib/*" standin.Focus "$@"
