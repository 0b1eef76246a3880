#!/bin/bash
# A client and a server that can reach a TURN server each, and nothing else: network namespaces of this script's own making.
#
#     client 10.91.1.2 ── 10.91.1.1  TURN server  10.91.2.1 ── 10.91.2.2 server
#
# The middle forwards no packets; the client's HTTP reaches the server by a proxy there, as it would by a load balancer.
# usage: relay.sh PROGRAM udp|tcp|tls VIDEO SUMMARY     in an empty folder; needs unshare, ip, nsenter, turnserver, openssl and python3
# It enters namespaces of its own first, so it needs no root where unprivileged users have them.
set -euo pipefail
if [ "${RELAY_INSIDE:-}" != 1 ]; then
    RELAY_INSIDE=1 exec unshare -rnm bash "$0" "$@"
fi
program=$1 transport=$2 video=$3 summary=$4
pids=()
# a caller may have us started with signals blocked, but for this one; and whoever stayed would keep the caller's end of a pipe open
trap 'for pid in "${pids[@]}"; do kill -KILL "$pid" 2> /dev/null || true; done' EXIT

until_true() { # SECONDS COMMAND ...
    local end=$((SECONDS + $1))
    shift
    until "$@" 2> /dev/null; do
        [ "$SECONDS" -lt "$end" ] || { echo "not in time: $*" >&2; tail -n 40 serve.log turn.log proxy.log >&2 || true; exit 9; }
        sleep 0.05
    done
}

ip link set lo up
for host in client server; do
    unshare -n bash -c 'ip link set lo up; exec sleep 300' &
    pids+=("$!")
    printf -v "$host" '%s' "$!"
    until_true 10 bash -c "[ \"\$(readlink /proc/$!/ns/net)\" != \"\$(readlink /proc/$$/ns/net)\" ]"
done
on() { local pid=$1; shift; nsenter -t "$pid" -n "$@"; }
link() { # NUMBER PID
    ip link add "v$1" type veth peer name v netns "$2"
    ip addr add "10.91.$1.1/24" dev "v$1"
    ip link set "v$1" up
    on "$2" ip addr add "10.91.$1.2/24" dev v
    on "$2" ip link set v up
}
link 1 "$client"
link 2 "$server"
# there is no other path
[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 0 ]
! on "$client" ip route get 10.91.2.2 2> /dev/null
! on "$server" ip route get 10.91.1.2 2> /dev/null

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=turn.test \
    -addext subjectAltName=IP:10.91.1.1,IP:10.91.2.1 -keyout key.pem -out cert.pem 2> openssl.log
cat > turnserver.conf <<END
listening-ip=10.91.1.1
listening-ip=10.91.2.1
listening-port=3478
tls-listening-port=5349
relay-ip=10.91.1.1
lt-cred-mech
realm=everyframe.test
user=everyframe:only for tests
no-cli
fingerprint
cert=$PWD/cert.pem
pkey=$PWD/key.pem
pidfile=$PWD/turn.pid
userdb=$PWD/turn.db
log-file=stdout
simple-log
no-dtls
verbose
END
turnserver -c turnserver.conf > turn.log 2>&1 &
pids+=("$!")
cat > proxy.py <<'END'
import asyncio
async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
async def serve(reader, writer):
    try:
        there = await asyncio.open_connection("10.91.2.2", 9001)
    except OSError:
        return writer.close()
    await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))
async def main():
    async with await asyncio.start_server(serve, "10.91.1.1", 9001) as server:
        await server.serve_forever()
asyncio.run(main())
END
python3 proxy.py > proxy.log 2>&1 &
pids+=("$!")

url() { # HOST
    case $transport in
    tls) echo "turns:$1:5349" ;;
    *) echo "turn:$1:3478?transport=$transport" ;;
    esac
}
export EVERYFRAME_ICE_CA=$PWD/cert.pem
account="everyframe,only for tests"
# they may start before the TURN server listens, but then they go without it
until_true 20 bash -c 'exec 3<> /dev/tcp/10.91.1.1/3478'
until_true 20 bash -c 'exec 3<> /dev/tcp/10.91.2.1/5349'
# in place of the subshell, so that it is the process to be ended
(exec nsenter -t "$server" -n "$program" serve --host 10.91.2.2 --port 9001 --model synthetic:2ms --relay-server "$(url 10.91.2.1),$account" > serve.log 2>&1) &
pids+=("$!")
until_true 30 grep -q 'Listening on' serve.log
until_true 20 bash -c 'exec 3<> /dev/tcp/10.91.1.1/9001'
code=0
on "$client" timeout 90 "$program" stream "$video" --server http://10.91.1.1:9001 --relay-only --ice-server "$(url 10.91.1.1),$account" \
    --summary "$summary" --quiet || code=$?
if [ "$code" != 0 ]; then tail -n 40 serve.log turn.log >&2; fi
# what was relayed at all, by coturn's own count
until_true 10 grep -q 'lifetime=0' turn.log
exit "$code"
