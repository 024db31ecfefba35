{{- /* What every object bears. */ -}}
{{- define "vigie.labels" -}}
app.kubernetes.io/name: vigie
app.kubernetes.io/part-of: vigie
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- define "vigie.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{- define "vigie.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Where the kubelet asks the agent. With a relay it listens at the node's address, which is the pod's. */ -}}
{{- define "vigie.probe" -}}
{{- if .Values.relay.enabled }}scheme: HTTPS{{ else }}host: 127.0.0.1{{ end }}, port: 9780
{{- end -}}
