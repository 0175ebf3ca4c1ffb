#!/bin/sh
# Prepares one Mac for a cluster. It shows what it would change, and changes it with --apply.
#
#     launch/prepare-host.sh [--python PATH] [--wired-limit MB] [--bridge-off]
#     sudo launch/prepare-host.sh ... --apply
#
# Each step is left out where it is done already, so it may be run again at any time:
#   sleep         the Mac never sleeps by itself
#   firewall      if it is on: the Python of the ranks may be reached
#   --wired-limit the GPU may hold so many MB, now and after every restart
#   --bridge-off  Thunderbolt ports get addresses of their own, as RDMA needs; the ring over
#                 Thunderbolt Bridge ends with it
set -eu

here=$(cd "$(dirname "$0")" && pwd)
python="$here/../.venv/bin/python"
firewall=${FIREWALL:-/usr/libexec/ApplicationFirewall/socketfilterfw}
daemons=${DAEMONS:-/Library/LaunchDaemons}
limit=
bridge=keep
apply=no

while [ $# -gt 0 ]; do
    case $1 in
        --python) python=${2:?--python needs a path}; shift ;;
        --wired-limit) limit=${2:?--wired-limit needs a number of MB}; shift ;;
        --bridge-off) bridge=off ;;
        --apply) apply=yes ;;
        *) echo "prepare-host.sh: unknown option $1; the first lines of this file say more" >&2; exit 2 ;;
    esac
    shift
done
case $limit in
    *[!0-9]*) echo "prepare-host.sh: --wired-limit $limit: expected a number of MB" >&2; exit 2 ;;
esac
python=$(readlink -f "$python" 2> /dev/null || echo "$python") # the firewall knows no links
if [ "$(uname)" != Darwin ]; then
    echo "prepare-host.sh: this is no Mac, nothing to prepare" >&2
    exit 2
fi
if [ "$apply" = yes ] && [ "$(id -u)" != 0 ]; then
    echo "prepare-host.sh: --apply needs root: sudo $0 ... --apply" >&2
    exit 2
fi

done_already() { echo "ok       $1"; }
change() { # what it is for, then the command
    echo "change   $1"
    shift
    echo "         $*"
    if [ "$apply" = yes ]; then "$@"; fi
}
setting() { pmset -g | awk -v name="$1" '$1 == name {print $2; exit}'; }

if [ "$(setting sleep)" = 0 ] && [ "$(setting disksleep)" = 0 ]; then
    done_already "it never sleeps by itself"
else
    change "never sleep" pmset -a sleep 0 disksleep 0
fi

case $("$firewall" --getglobalstate) in
    *"State = 0"*) done_already "the firewall is off" ;;
    *)
        case $("$firewall" --getappblocked "$python") in
            *permitted*) done_already "the firewall lets $python be reached" ;;
            *)
                change "let the firewall know this Python" "$firewall" --add "$python"
                change "let it be reached" "$firewall" --unblockapp "$python"
                ;;
        esac
        ;;
esac

if [ -n "$limit" ]; then
    if [ "$(sysctl -n iogpu.wired_limit_mb)" = "$limit" ]; then
        done_already "the GPU may hold $limit MB"
    else
        change "let the GPU hold $limit MB" sysctl "iogpu.wired_limit_mb=$limit"
    fi
    plist="$daemons/dsv4-tp.wired-limit.plist"
    wanted=$(sed "s/iogpu.wired_limit_mb=[0-9]*/iogpu.wired_limit_mb=$limit/" "$here/dsv4-tp.wired-limit.plist")
    if [ -f "$plist" ] && [ "$(cat "$plist")" = "$wanted" ]; then
        done_already "after a restart as well"
    else
        echo "change   after a restart as well"
        echo "         write $plist"
        if [ "$apply" = yes ]; then printf '%s\n' "$wanted" > "$plist"; fi
    fi
fi

if [ "$bridge" = off ]; then
    if ifconfig bridge0 2> /dev/null | head -n 1 | grep -q '[<,]UP[,>]'; then
        change "take Thunderbolt Bridge down" networksetup -setnetworkserviceenabled "Thunderbolt Bridge" off
        change "now" ifconfig bridge0 down
    else
        done_already "Thunderbolt Bridge is down"
    fi
    services=$(networksetup -listallnetworkservices)
    networksetup -listallhardwareports | sed -n 's/^Hardware Port: \(Thunderbolt [0-9]*\)$/\1/p' |
        while read -r port; do
            if echo "$services" | grep -qx "$port"; then
                done_already "$port has a service, and so an address"
            else
                change "give $port an address" networksetup -createnetworkservice "$port" "$port"
            fi
        done
fi

if [ "$apply" = no ]; then echo "nothing was changed; with --apply it will be"; fi
