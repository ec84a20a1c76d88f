#!/bin/bash
# Puts camd on a box with Debian, Raspberry Pi OS or Ubuntu: deploy/install.sh [OPTION…] [USER@]HOST
#   --package FILE   this package, in place of the one that deploy/package makes for the box's architecture
#   -F FILE, -i FILE, -p PORT, -J HOST, -o OPTION   as of ssh
# HOST may be an IPv6 address, in brackets or not. On the box it needs ssh, dpkg, and root or sudo. An
# /etc/camd.toml that is there stays as it is. Without one, the package makes it, with a login of the box's own, and prints that.
set -euo pipefail

usage() {
    sed -n '2,6s/^# //p' "$0" >&2
    exit 2
}

package=
ssh_options=()
while [ $# -gt 1 ]; do
    case $1 in
    --package)
        package=$2
        ;;
    -[FiJo])
        ssh_options+=("$1" "$2")
        ;;
    -p) # scp has another letter for it
        ssh_options+=(-o "Port=$2")
        ;;
    *) usage ;;
    esac
    shift 2
done
[ $# = 1 ] && [[ $1 != -* ]] || usage
# ssh wants an IPv6 address as it is, scp in brackets.
user=
host=$1
if [[ $host == *@* ]]; then
    user=${host%@*}@
    host=${host##*@}
fi
host=${host#[}
host=${host%]}
there_host=$user$host
[[ $host != *:* ]] || there_host="$user[$host]"
host=$user$host

# One connection for all, so that a password is asked for once.
folder=$(mktemp -d)
ssh_options+=(-o ControlMaster=auto -o "ControlPath=$folder/%C" -o ControlPersist=60)
leave() {
    ssh "${ssh_options[@]}" -O exit "$host" 2>/dev/null || true
    rm -rf "$folder"
}
trap leave EXIT

read -r arch machine < <(ssh "${ssh_options[@]}" "$host" 'echo $(dpkg --print-architecture) $(uname -m)') ||
    { echo "install.sh: cannot ask $host for its architecture" >&2; exit 1; }
case $machine in
armv[456]*)
    echo "install.sh: the processor of $host is $machine; camd needs ARMv7: Raspberry Pi 2, Zero 2 W or newer" >&2
    exit 1
    ;;
esac
if [ -z "$package" ]; then
    package=$("$(dirname "$0")/package" "$arch")
fi
of=$(dpkg-deb -f "$package" Architecture 2>/dev/null || echo "$arch") # a client without dpkg lets the box find out
[ "$of" = "$arch" ] || { echo "install.sh: $package is for $of, $host is $arch" >&2; exit 1; }

echo "install.sh: $(basename "$package") to $host"
there=$(ssh "${ssh_options[@]}" "$host" mktemp --tmpdir camd-XXXXXX.deb)
scp -q "${ssh_options[@]}" "$package" "$there_host:$there"
# A terminal is needed where sudo asks for a password.
terminal=()
[ ! -t 0 ] || terminal=(-t)
# shellcheck disable=SC2087 # the box's shell gets the client's words
ssh "${terminal[@]}" "${ssh_options[@]}" "$host" "
    sudo=; [ \$(id -u) = 0 ] || sudo=sudo
    # What it says is shown, and the login once more at the end.
    said=\$(mktemp) && code=\$(mktemp)
    { \$sudo env DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold -i $there; echo \$? >\$code; } | tee \$said
    login=\$(sed -n 's/^camd: \(its login is .*\)/\1/p' \$said)
    rm -f $there \$said
    read -r it <\$code
    rm -f \$code
    code=\$it
    [ \$code = 0 ] || exit \$code
    # By its name without a domain a board is known to few networks; by multicast DNS to most, if it runs that.
    name=\$(hostname)
    case \$name in *.*) ;; *) ! systemctl is-active --quiet avahi-daemon || name=\$name.local ;; esac
    if systemctl is-active --quiet camd; then
        echo \"install.sh: camd runs: http://\$name:8080/ unless /etc/camd.toml says otherwise\"
    elif [ \"\$(systemctl is-enabled camd 2>/dev/null)\" != enabled ]; then
        # Its owner has switched it off, and an upgrade leaves it so.
        echo 'install.sh: camd is installed; it is disabled, and so does not run: systemctl enable --now camd'
    else
        echo 'install.sh: camd is installed but does not run; systemctl status camd says why' >&2
        systemctl --no-pager status camd >&2
        exit 1
    fi
    [ -z \"\$login\" ] || echo \"install.sh: \$login\""
