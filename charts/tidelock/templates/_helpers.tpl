{{- define "tidelock.fullname" -}}
{{- if contains "tidelock" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-tidelock" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tidelock.installation" -}}
{{ .Values.installation | default (printf "tidelock.%s" .Release.Namespace) }}
{{- end }}

{{- define "tidelock.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "tidelock.labels" -}}
app.kubernetes.io/name: tidelock
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "tidelock.selector" -}}
app.kubernetes.io/name: tidelock
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tidelock.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}
