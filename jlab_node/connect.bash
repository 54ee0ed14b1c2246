# jlab-remote: the login node's half of `ssh jlab+ALIAS`. Written by jlab-node; do not edit.
#
#   bash ~/.jlab/connect [--session=NAME] [--columns=N] [--port=N | --taken=N]
#       find the newest session (of that name), connect to its endpoint, carry bytes
#   bash ~/.jlab/connect ... --relay=FILE
#       carry bytes between stdin, stdout and descriptor 3, which leads to FILE's session
#
# --columns: the laptop has a terminal of that width, so a line about the session is welcome.
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
    format='' name='' scheduler=local job_id=0 cluster='' node='' ssh_port='' nonce=''
    ends_at='' scheme=http base_url=/
    while IFS='=' read -r key value; do
        case $key in
        format | name | scheduler | job_id | cluster | node | ssh_port | nonce | ends_at | scheme | \
            base_url) printf -v "$key" %s "$value" ;;
        esac
    done <"$1" || return
    [[ $format == 1 && $name =~ $word && $scheduler =~ ^[a-z]+$ && $node =~ $word ]] &&
        [[ $job_id =~ ^[][A-Za-z0-9._]+$ && ($cluster == '' || $cluster =~ $word) ]] &&
        [[ $ssh_port =~ $number && $nonce =~ ^[0-9a-f]{32}$ && $ends_at =~ ^[0-9]{0,12}$ ]] &&
        [[ $scheme =~ ^https?$ && $base_url =~ ^/([A-Za-z0-9._~%-]+/)*$ ]]
}

# Whether this machine belongs to the cluster of the record, which may be another with this home.
is_here() {
    local sites=''
    if [[ $scheduler == local ]]; then
        [[ $node == "$HOSTNAME" ]]
        return
    fi
    read -r sites 2>/dev/null <"$directory/sites/$HOSTNAME"
    [[ " $sites " == *" $scheduler:$cluster "* ]]
}

# Open descriptor 3 to the endpoint, if it is this session's: its first line proves it.
open_endpoint() { # HOST PORT NONCE
    local watchdog greeting status began=$SECONDS
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
    silent=$((status && SECONDS - began >= connect_timeout))
    [[ $status == 0 && $greeting == "jlab $3"$'\r' ]]
}

# One line for a person: session, node, time left, where to look.
announce() {
    local left='' url='' where=$node
    if [[ $ends_at ]]; then
        printf -v left '%(%s)T' -1
        left=$((ends_at > left ? (ends_at - left) / 60 : 0))
        left=", $((left / 60)) h $((left % 60)) min left"
    fi
    [[ $port ]] && url=", JupyterLab at $scheme://localhost:$port$base_url"
    [[ $taken ]] && url=" (localhost:$taken is taken already, perhaps by another ssh to it)"
    [[ $scheduler == local ]] || where+=", $scheduler job $job_id"
    echo "jlab-node: session $name on $where$left$url" >&2
}

main() {
    local LC_ALL=C argument session='' port='' taken='' columns='' established='' files file host
    local directory=${BASH_SOURCE[0]%/*} silent=0
    local format name scheduler job_id cluster node ssh_port nonce ends_at scheme base_url
    for argument; do
        case $argument in
        --session=*) session=${argument#*=} ;;
        --port=*) port=${argument#*=} ;;
        --taken=*) taken=${argument#*=} ;;
        --columns=*) columns=${argument#*=} ;;
        --relay=*) established=${argument#*=} ;;
        esac
    done
    if [[ $established ]]; then
        [[ $columns ]] && read_record "$directory/sessions/$established" && announce
        relay
    fi
    mapfile -t files < <(ls -t "$directory/sessions" 2>/dev/null </dev/null)
    for file in "${files[@]}"; do
        [[ $file == *-"$session"* ]] || continue
        read_record "$directory/sessions/$file" || break
        [[ -z $session || $name == "$session" ]] || continue
        is_here || continue
        host=$node
        [[ $scheduler == local ]] && host=127.0.0.1
        open_endpoint "$host" "$ssh_port" "$nonce" || break
        [[ $columns ]] && announce
        relay
    done
    exec 3>&-
    ((silent)) && set -- "$@" "--tried=$file"
    exec sh "$directory/jlab-node" connect "$@"
}

main "$@"
