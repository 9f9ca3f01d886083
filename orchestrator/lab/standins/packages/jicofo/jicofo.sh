#!/bin/bash
# jicofo:resources/jicofo.sh: refuses to run without a configuration file
here=/usr/share/jicofo
: "${JICOFO_MAX_MEMORY:=3072m}"
case "$JAVA_SYS_PROPS" in
*-Dconfig.file=*) ;;
*) echo "To run jicofo, please use a configuration file." && exit 2 ;;
esac
# shellcheck disable=SC2086  # several words on purpose
exec java -Xmx$JICOFO_MAX_MEMORY -XX:+HeapDumpOnOutOfMemoryError -XX:HeapDumpPath=/tmp -Djdk.tls.ephemeralDHKeySize=2048 \
    -Dstandin.version="$(cat $here/version)" $JAVA_SYS_PROPS -cp "$here/jicofo.jar:$here/lib/*" standin.Focus "$@"
