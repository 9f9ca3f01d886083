#!/bin/bash
# jitsi-videobridge:jvb/resources/jvb.sh: memory, collector, heap dumps into /tmp. That only the first compiler works is ours: so
# small a program starts with half the effort.
here=/usr/share/jitsi-videobridge
: "${VIDEOBRIDGE_MAX_MEMORY:=3072m}" "${VIDEOBRIDGE_GC_TYPE:=G1GC}"
# shellcheck disable=SC2086  # several words on purpose
exec java -XX:TieredStopAtLevel=1 -Xmx$VIDEOBRIDGE_MAX_MEMORY -XX:+Use$VIDEOBRIDGE_GC_TYPE \
    -XX:+HeapDumpOnOutOfMemoryError -XX:HeapDumpPath=/tmp -Djdk.tls.ephemeralDHKeySize=2048 -Dstandin.version="$(cat $here/version)" -Dstandin.broken="$(cat $here/broken)" \
    $JAVA_SYS_PROPS -cp "$here/jitsi-videobridge.jar:$here/lib/*" standin.Bridge "$@"
