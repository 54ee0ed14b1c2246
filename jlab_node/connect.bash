# jlab-remote: the login node's half of `ssh jlab+ALIAS`. Written by jlab-node; do not edit.
#
#   bash ~/.jlab/connect [--session=NAME] [--terminal] [--port=N | --taken=N]
#       find the newest session (of that name), connect to its endpoint, carry bytes
#   bash ~/.jlab/connect --relay
#       carry bytes between stdin, stdout and descriptor 3
#
# stdout carries ssh's bytes and nothing else. This is the fast path: a record, a node that answers.
# No Python and no scheduler here; whatever else there is to do or to explain is `jlab-node connect`.
# Options are single words and unknown ones are ignored: the laptop may be newer than this file.

readonly connect_timeout=3 # seconds

relay() { # ends when either side does
    cat <&0 >&3 &
    local to_node=$!
    cat <&3 &
    exec <&- >&- 3>&-
    wait -n
    kill "$to_node" $! 2>/dev/null
    exit
}

# Read a record into the variables below; fails unless every value fits its pattern.
read_record() { # FILE
    local key value number='^[1-9][0-9]{0,4}$' word='^[A-Za-z0-9._-]+$'
    format='' name='' scheduler=local node='' ssh_port='' nonce='' ends_at='' base_url=/
    while IFS='=' read -r key value; do
        case $key in
        format | name | scheduler | node | ssh_port | nonce | ends_at | base_url)
            printf -v "$key" %s "$value" ;;
        esac
    done <"$1" || return
    [[ $format == 1 && $name =~ $word && $scheduler =~ ^[a-z]+$ && $node =~ $word ]] &&
        [[ $ssh_port =~ $number && $nonce =~ ^[0-9a-f]{32}$ && $ends_at =~ ^[0-9]{0,12}$ ]] &&
        [[ $base_url =~ ^/([A-Za-z0-9._~%-]+/)*$ ]]
}

# Open descriptor 3 to the endpoint, if it is this session's: its first line proves it.
open_endpoint() { # HOST PORT NONCE
    local watchdog greeting status
    trap : USR1 # interrupts connect(2), which would otherwise wait for minutes
    # A read that never gets anything: unlike sleep, it is no process of its own to leave behind.
    (read -r -t "$connect_timeout" <> <(:) || kill -USR1 $$) </dev/null >/dev/null 2>&1 &
    watchdog=$!
    { exec 3<>"/dev/tcp/$1/$2"; } 2>/dev/null
    status=$?
    ((status)) || IFS= read -r -t "$connect_timeout" -n 64 -u 3 greeting
    kill "$watchdog" 2>/dev/null
    wait "$watchdog" 2>/dev/null
    trap - USR1
    [[ $status == 0 && $greeting == "jlab $3"$'\r' ]]
}

# One line for a person: session, node, time left, where to look.
announce() {
    local left='' url=''
    if [[ $ends_at ]]; then
        printf -v left '%(%s)T' -1
        left=$((ends_at > left ? (ends_at - left) / 60 : 0))
        left=", $((left / 60)) h $((left % 60)) min left"
    fi
    [[ $port ]] && url=", JupyterLab at http://localhost:$port$base_url"
    [[ $taken ]] && url=" (localhost:$taken is taken already, perhaps by another ssh to it)"
    echo "jlab-node: session $name on $node$left$url" >&2
}

main() {
    local LC_ALL=C argument session='' port='' taken='' terminal='' files file host
    local directory=${BASH_SOURCE[0]%/*}
    local format name scheduler node ssh_port nonce ends_at base_url
    for argument; do
        case $argument in
        --relay) relay ;;
        --session=*) session=${argument#*=} ;;
        --port=*) port=${argument#*=} ;;
        --taken=*) taken=${argument#*=} ;;
        --terminal) terminal=yes ;;
        esac
    done
    mapfile -t files < <(ls -t "$directory/sessions" 2>/dev/null </dev/null)
    for file in "${files[@]}"; do
        [[ $file == *-"$session"* ]] || continue
        read_record "$directory/sessions/$file" || break
        [[ -z $session || $name == "$session" ]] || continue
        host=$node
        if [[ $scheduler == local ]]; then
            [[ $node == "$HOSTNAME" ]] || continue # another server with the same home
            host=127.0.0.1
        fi
        open_endpoint "$host" "$ssh_port" "$nonce" || break
        [[ $terminal ]] && announce
        relay
    done
    exec 3>&-
    exec sh "$directory/jlab-node" connect "$@"
}

main "$@"
