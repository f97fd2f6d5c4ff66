# Logs in with the current value of each secret, on and on, and writes down each time that it could not.
trap 'exit 0' TERM
passes=0
while :; do
	for secret in /run/tidelock/*; do
		wget -q -O /dev/null --post-file "$secret/value" "$TARGET/cgi-bin/login?${secret##*/}" 2>/tmp/why ||
			echo "${secret##*/} $(date +%T): $(cat /tmp/why)" >>/tmp/wrong
	done
	passes=$((passes + 1))
	echo "$passes" >/tmp/passes
	sleep 2
done
