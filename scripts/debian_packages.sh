#!/bin/sh
# Installs packages of Debian or Ubuntu for tests, as root: no service is started, no database cluster made.
# Usage: debian_packages.sh PACKAGE...
set -eu
export DEBIAN_FRONTEND=noninteractive

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi

install() {
    apt-get install -y -q --no-install-recommends "$@"
}

apt-get update -q
case " $* " in
*" postgresql "*)
    # Its server package makes a cluster named main when it is new, unless this file says no.
    install postgresql-common
    settings=/etc/postgresql-common/createcluster.conf
    cp -p "$settings" "$settings.kept"
    echo "create_main_cluster = false" >> "$settings"
    status=0
    install "$@" || status=$?
    mv "$settings.kept" "$settings"
    [ "$status" = 0 ] || exit "$status"
    ;;
*)
    install "$@"
    ;;
esac
# The tests start their own; the machine's next start is not to.
if command -v systemctl > /dev/null; then
    for service in prometheus-alertmanager pgbouncer rsyslog haproxy patroni etcd caddy slapd lemonldap-ng-fastcgi-server; do
        case " $* " in
        *" $service"*) systemctl disable --quiet "$service" 2> /dev/null || true ;;
        esac
    done
fi
