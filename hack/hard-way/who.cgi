#!/bin/sh
# Says who answers, and whom it sees as the one who asks: what address translation did on the way shows here.
printf 'Content-Type: text/plain\r\n\r\n'
who=${REMOTE_ADDR#[} # the server writes IPv4 as [::ffff:10.200.0.2]
who=${who%]}
echo "this is ${WHO:-$(hostname)}, and you are ${who#::ffff:}"
