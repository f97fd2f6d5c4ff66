# The rotator of these tests: the sample's four steps, each of which can be held before, in and after its work.
# At the gate it says that it is there, and goes on when the gate says `go`. A gate that is not at `hold` when it
# comes lets it pass.
set -eu
trap 'wget -q -O /dev/null "$TARGET/cgi-bin/ended?$NAME.$TIDELOCK_STEP.$?" || true' EXIT
gate() { wget -q -O - "$TARGET/gate" 2>/dev/null || true; }
at() {
	[ "$HOLD" = "$TIDELOCK_STEP $1" ] && [ "$(gate)" = hold ] || return 0
	wget -q -O /dev/null "$TARGET/cgi-bin/here?$NAME"
	until [ "$(gate)" = go ]; do sleep 1; done
}
api() {
	wget -q -O - --header "Content-Type: application/x-amz-json-1.1" \
		--header "X-Amz-Target: secretsmanager.$1" --post-file /dev/stdin "$AWS_ENDPOINT_URL_SECRETS_MANAGER/"
}
text() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p"; }
secret=$(text SecretId <"$TIDELOCK_EVENT")
token=$(text ClientRequestToken <"$TIDELOCK_EVENT")
pending() {
	printf '{"SecretId":"%s","VersionId":"%s","VersionStage":"AWSPENDING"}' "$secret" "$token" | api GetSecretValue | text SecretString
}
at before
case $TIDELOCK_STEP in
createSecret)
	if [ -z "$(pending)" ]; then
		new=$(printf '{"PasswordLength":40,"ExcludePunctuation":true}' | api GetRandomPassword | text RandomPassword)
		at in
		printf '{"SecretId":"%s","ClientRequestToken":"%s","SecretString":"%s","VersionStages":["AWSPENDING"]}' \
			"$secret" "$token" "$new" | api PutSecretValue >/dev/null
	fi
	;;
setSecret | testSecret)
	new=$(pending)
	[ -n "$new" ]
	at in
	call=token
	[ "$TIDELOCK_STEP" = setSecret ] || call=login
	printf %s "$new" | wget -q -O /dev/null --post-file /dev/stdin "$TARGET/cgi-bin/$call?$NAME"
	;;
finishSecret)
	current=$(printf '{"SecretId":"%s"}' "$secret" | api GetSecretValue | text VersionId)
	at in
	[ "$current" = "$token" ] || printf '{"SecretId":"%s","VersionStage":"AWSCURRENT","MoveToVersionId":"%s","RemoveFromVersionId":"%s"}' \
		"$secret" "$token" "$current" | api UpdateSecretVersionStage >/dev/null
	;;
esac
at after
